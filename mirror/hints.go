package mirror

type hintSet struct{}

func (h *hintSet) init() {}
