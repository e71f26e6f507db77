package stream

import "testing"

func TestStallNeedsTwoSilencesAtOneFrame(t *testing.T) {
	var s stall
	for i, step := range []struct {
		read, stored uint64
		want         bool
	}{
		{5, 5, false}, {5, 6, false}, {6, 7, false}, {6, 7, true}, {6, 9, true}, {9, 9, false}, {9, 10, false}, {10, 10, false}, {10, 11, false},
	} {
		if got := s.note(step.read, step.stored); got != step.want {
			t.Errorf("step %d: %t", i, got)
		}
	}
}
