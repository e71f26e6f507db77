package mirror

import (
	"sync"
	"sync/atomic"
)

// State of the mirror of a connection.
type State uint8

const (
	Idle       State = iota
	Mirroring        // a run is under way
	Paused           // a run is under way and paused
	Joining          // what came in across the border is being sent
	Done             // the last run sent everything
	Stopped          // the last run was stopped: remirror required (B7.28)
	Aborted          // the last run lost records: remirror required
	Incomplete       // the last run could not read everything
	Failed           // the last run ended with another error: remirror required
)

var stateNames = [...]string{"idle", "mirroring", "paused", "joining", "done", "stopped", "aborted", "incomplete", "failed"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// Progress of the present or last run, a plain copy. Done means logged, not applied
// (B7.20).
type Progress struct {
	State      State
	Run        int64
	Files      uint64 // everything but directories that was looked at
	Dirs       uint64
	Bytes      uint64  // size of the files that are done
	Sent       uint64  // bytes of content logged
	TotalFiles uint64  // 0: not known
	TotalBytes uint64  // 0: not known
	Percent    float64 // -1: not known (B5.53)
	Skipped    uint64  // of Files, those found equal (or not newer)
	Errors     uint64  // objects that could not be read
	Current    string  // path being read
}

type progress struct {
	files, dirs, bytes, sent, skipped, contents, errors, totalFiles, totalBytes atomic.Uint64

	mu      sync.Mutex
	state   State
	run     int64
	current string
}

func (p *progress) start(run int64, s State, o Options) {
	for _, c := range []*atomic.Uint64{&p.files, &p.dirs, &p.bytes, &p.sent, &p.skipped, &p.contents, &p.errors} {
		c.Store(0)
	}
	p.totalFiles.Store(o.TotalFiles)
	p.totalBytes.Store(o.TotalBytes)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.run, p.current = s, run, ""
}

func (p *progress) setState(s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
}

func (p *progress) at(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current = path
}

// Measured tells how much the set holds, if that was found out while a run is under way.
func (m *Mirror) Measured(files, bytes uint64) {
	m.prog.totalFiles.Store(files)
	m.prog.totalBytes.Store(bytes)
}

// Progress tells how far the present or last run is.
func (m *Mirror) Progress() Progress {
	p := &m.prog
	m.gate.mu.Lock()
	paused := m.gate.paused
	m.gate.mu.Unlock()
	p.mu.Lock()
	out := Progress{State: p.state, Run: p.run, Current: p.current}
	p.mu.Unlock()
	if paused && out.State == Mirroring {
		out.State = Paused
	}
	out.Files, out.Dirs, out.Bytes = p.files.Load(), p.dirs.Load(), p.bytes.Load()
	out.Sent, out.Skipped, out.Errors = p.sent.Load(), p.skipped.Load(), p.errors.Load()
	out.TotalFiles, out.TotalBytes = p.totalFiles.Load(), p.totalBytes.Load()
	out.Percent = percent(out)
	return out
}

// percent goes by bytes, or by files where all are empty. The size is a snapshot, so
// it may be too small (B5.55).
func percent(p Progress) float64 {
	switch {
	case p.State == Done:
		return 100
	case p.TotalBytes > 0:
		return min(99.9, 100*float64(p.Bytes)/float64(p.TotalBytes))
	case p.TotalFiles > 0:
		return min(99.9, 100*float64(p.Files)/float64(p.TotalFiles))
	}
	return -1
}
