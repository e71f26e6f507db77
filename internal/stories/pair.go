package stories

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"understudy/control"
	"understudy/internal/testfuse"
	"understudy/internal/testnode"
	"understudy/node"
)

// Pair is a source with a directory, and a target for its replica, on the test's own
// network. This process serves no mount, so it may look into both trees.
type Pair struct {
	T              testing.TB
	Base           string // a directory of the test's own that holds all
	Dir, Replica   string
	Source, Target *Machine
	Capture        string // of the directory
	Con            int    // the connection's number

	set    string // of the connection
	change func(*node.Config)
}

// NewPair makes machines that know each other and do not run yet. change, which may be nil,
// sets in the settings of each what the story needs.
func NewPair(t testing.TB, base, capture string, change func(*node.Config)) *Pair {
	t.Helper()
	p := &Pair{T: t, Base: base, Dir: filepath.Join(base, "tree"), Replica: filepath.Join(base, "replica"), Capture: capture, change: change}
	Must(t, os.Mkdir(p.Dir, 0o755))
	p.Source, p.Target = p.Machine("indy"), p.Machine("jersey")
	Introduce(t, p.Source, p.Target)
	return p
}

// StackedPair is a running pair whose source captures the directory in write order. It
// needs root and FUSE.
func StackedPair(t testing.TB, change func(*node.Config)) *Pair {
	t.Helper()
	testfuse.Need(t)
	p := NewPair(t, TempDir(t), "stacked", change)
	testfuse.Watchdog(t, p.Dir, Limit) // before the daemons: their end comes before that of the mount
	p.Start()
	p.Source.Ask("mount", control.DirRequest{Dir: p.Dir}, nil)
	return p
}

// HintedPair is a running pair whose source is told of changes and looks for them. It needs
// root: its trees hold files of other owners, on a file system of its own.
func HintedPair(t testing.TB, change func(*node.Config)) *Pair {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: files of other owners")
	}
	p := NewPair(t, testnode.Memory(t), "inotify", change)
	p.Start()
	return p
}

// Machine is a further one with the pair's settings, which nobody knows and which does not
// run yet.
func (p *Pair) Machine(name string) *Machine {
	p.T.Helper()
	m := NewMachine(p.T, nil, name, filepath.Join(p.Base, name))
	if p.change != nil {
		p.change(&m.Cfg)
	}
	return m
}

// Start runs both.
func (p *Pair) Start() {
	p.T.Helper()
	p.Target.Start()
	p.Source.Start()
}

// All are the rules of a set of the whole directory.
func (p *Pair) All() []string { return []string{p.Dir + " inc, rec"} }

// Connect joins the directory to the replica, with what req says else. Without rules those
// of the set that is saved on the source count.
func (p *Pair) Connect(req control.ConnectRequest) {
	p.T.Helper()
	if req.Set == "" {
		req.Set = "tree"
	}
	if req.Map == nil {
		req.Map = map[string]string{p.Dir: p.Replica}
	}
	req.Target, req.Address, req.Capture = p.Target.Cfg.Name, p.Target.D.Addr(), p.Capture
	var reply control.ConnectReply
	p.Source.Ask("connect", req, &reply)
	p.Con, p.set = reply.ID, req.Set
}

// Settle waits until everything that was changed before is applied. A restart of the source
// may have given the connection another number.
func (p *Pair) Settle() {
	p.T.Helper()
	for _, c := range p.Source.Status().Connections {
		if c.Set == p.set {
			p.Con = c.ID
		}
	}
	if err := p.Source.Try("settle", control.SettleRequest{ID: p.Con, TimeoutMS: Patience.Milliseconds()}, nil); err != nil {
		p.Source.D.Stacks()
		p.Target.D.Stacks()
		p.T.Fatalf("settle: %v", err)
	}
}

// Write replaces a file of the directory.
func (p *Pair) Write(name, text string) {
	p.T.Helper()
	Must(p.T, os.WriteFile(filepath.Join(p.Dir, name), []byte(text), 0o644))
}

// Copy copies a tree with all its attributes.
func (p *Pair) Copy(from, to string) {
	p.T.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		p.T.Fatalf("cp: %v: %s", err, out)
	}
}
