package control

// RestoreRequest steers restorations from this machine, the one that holds the replica.
// Action start begins one, status tells of number ID, with WaitMS when it has ended (30 s
// at most), stop ends it.
type RestoreRequest struct {
	Action   string            `json:"action"`
	ID       int               `json:"restore_id,omitempty"`
	Set      string            `json:"set,omitempty"`
	Original string            `json:"original,omitempty"` // machine the data came from; "": the only one with the set
	To       string            `json:"to,omitempty"`       // machine that gets the data; "": Original
	Address  string            `json:"address,omitempty"`  // of To; "": the one known
	Map      map[string]string `json:"map,omitempty"`      // root of the set to a place on To; none: the same
	Rules    []string          `json:"rules,omitempty"`    // none: those of the copy kept here
	// Overwrite replaces files that are newer on To. Missing sends only what To does not
	// have. Neither: what is newer on To stays.
	Overwrite bool  `json:"overwrite,omitempty"`
	Missing   bool  `json:"missing,omitempty"`
	Checksum  bool  `json:"checksum,omitempty"` // only differing blocks
	Orphans   bool  `json:"orphans,omitempty"`  // what only To has is removed or set aside, by To
	Repset    bool  `json:"repset,omitempty"`   // To stores the copy of the replication set kept here
	WaitMS    int64 `json:"wait_ms,omitempty"`
}

// Restore tells how a restoration is.
type Restore struct {
	ID      int     `json:"restore_id"`
	State   string  `json:"state"` // restoring, done, stopped, failed
	Set     string  `json:"set"`
	From    string  `json:"from"`
	To      string  `json:"to"`
	Percent float64 `json:"percent"` // -1: not known
	Files   uint64  `json:"files"`   // looked at
	Left    uint64  `json:"left"`    // of them, left as they were: equal, newer, or there already
	Bytes   uint64  `json:"bytes"`   // sent
	Orphans uint64  `json:"orphans,omitempty"`
	Error   string  `json:"error,omitempty"`
}
