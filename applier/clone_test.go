package applier

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"understudy/fileop"
	"understudy/internal/sametree"
)

// TestCloneGoesOn: what is applied to a copy of a replica leads to the same tree as what
// is applied to the replica: hard links, nameless files, links and attributes included.
func TestCloneGoesOn(t *testing.T) {
	dir := t.TempDir()
	s := newScript(t, 1, 3)
	first := []fileop.Op{
		{Kind: fileop.Gap}, {Kind: fileop.MirrorBegin, Len: 1}, {Kind: fileop.MirrorEnd, Len: 1},
		{Kind: fileop.Mkdir, Obj: id(10), Parent: rootID, Name: "d", Attr: dirAttr(0o750, 1), PMtime: at(1)},
		{Kind: fileop.Create, Obj: id(11), Parent: id(10), Name: "f", Attr: fileAttr(0o640, 2), PMtime: at(2)},
		{Kind: fileop.Write, Obj: id(11), Data: []byte("one"), Off: 1 << 20, Mtime: at(3)},
		{Kind: fileop.Link, Obj: id(11), Parent: rootID, Name: "g", PMtime: at(4)},
		{Kind: fileop.Symlink, Obj: id(12), Parent: rootID, Name: "l", Data: []byte("d/f"), Attr: &fileop.Attr{Mode: 0o120777, Mtime: at(4)}, PMtime: at(4)},
		{Kind: fileop.Create, Obj: id(13), Attr: fileAttr(0o600, 5)},
		{Kind: fileop.Write, Obj: id(13), Data: []byte("nameless"), Mtime: at(5)},
	}
	then := []fileop.Op{
		{Kind: fileop.Write, Obj: id(11), Data: []byte("two"), Off: 4, Mtime: at(6)},
		{Kind: fileop.Link, Obj: id(13), Parent: id(10), Name: "named", PMtime: at(7)},
		{Kind: fileop.Rename, Obj: id(10), Parent: rootID, Name: "d", Parent2: rootID, Name2: "e", PMtime: at(8), PMtime2: at(8)},
		{Kind: fileop.Unlink, Obj: id(12), Parent: rootID, Name: "l", Last: true, PMtime: at(9)},
	}
	s.add(first...)
	middle := s.q.Next() - 1
	s.send()
	cfg := testConfig(t, dir)
	a := runOn(t, cfg, s)
	if err := a.Settled(t.Context(), middle); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "copied")
	pos, err := a.Clone(t.Context(), CloneConfig{StateDir: filepath.Join(dir, "state2"), Paths: map[uint32]string{0: copied}})
	if err != nil {
		t.Fatal(err)
	}
	if pos.Applied != middle {
		t.Errorf("copied at %d, want %d", pos.Applied, middle)
	}
	sametree.Check(t, cfg.Roots[0].Path, copied, sametree.Options{})
	last := s.add(then...)
	s.send()
	if err := a.Settled(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	cfg2 := cfg
	cfg2.StateDir, cfg2.Roots = filepath.Join(dir, "state2"), []Root{{Source: rootID, Path: copied}}
	s2 := &script{t: t, epoch: 1, frames: s.frames, more: make(chan struct{}), nextQ: int(pos.Frame)}
	b := runOn(t, cfg2, s2)
	if err := b.Settled(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	sametree.Check(t, cfg.Roots[0].Path, copied, sametree.Options{})
	if raw, err := os.ReadFile(filepath.Join(copied, "e/named")); err != nil || string(raw) != "nameless" {
		t.Errorf("the file that had no name: %q, %v", raw, err)
	}
}

// runOn runs an applier on a script until the test ends.
func runOn(t *testing.T, cfg Config, s *script) *Applier {
	t.Helper()
	a, err := Open(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, s) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}
