package applier

import (
	"testing"

	"understudy/fileop"
)

// A new epoch starts the numbers again and makes the target unusable until the next
// mirror end; what it knows of objects stays.
func TestNewEpoch(t *testing.T) {
	cfg := testConfig(t, t.TempDir())
	s := newScript(t, 1, 10)
	r := startRig(t, cfg, s)
	s.add(fileop.Op{Kind: fileop.Gap}, fileop.Op{Kind: fileop.MirrorBegin, Len: 1},
		fileop.Op{Kind: fileop.MirrorEntry, Flags: fileop.FlagWhole, Obj: id(20), Parent: rootID, Name: "f", Attr: fileAttr(0o600, 1), Nlink: 1},
		fileop.Op{Kind: fileop.MirrorEnd, Len: 1})
	r.settled()
	if p := r.Position(); !p.Usable() {
		t.Fatalf("position %+v", p)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	cfg.Epoch = 2
	s = newScript(t, 2, 10)
	r = startRig(t, cfg, s)
	s.add(fileop.Op{Kind: fileop.Gap},
		fileop.Op{Kind: fileop.Rename, Obj: id(20), Parent: rootID, Name: "f", Parent2: rootID, Name2: "g", PMtime: at(1), PMtime2: at(1)})
	r.settled()
	wantTree(t, r.dir, ". 40755 0:0 1000000001.2", `g 100600 0:0 1000000001.2 1 ""`)
	if p := r.Position(); p.Usable() || p.Epoch != 2 || p.Applied != 2 {
		t.Fatalf("position %+v", p)
	}
}

// A frame that is not the successor, or damaged inside, stops the run.
func TestNotTheSuccessor(t *testing.T) {
	s := newScript(t, 1, 1)
	r := startRig(t, testConfig(t, t.TempDir()), s)
	s.add(fileop.Op{Kind: fileop.Gap}, fileop.Op{Kind: fileop.Sync}, fileop.Op{Kind: fileop.Sync})
	s.mu.Lock()
	s.frames = append(s.frames[:1:1], s.frames[2])
	s.nextQ = 0
	s.mu.Unlock()
	if !r.awaitEnd(3) {
		t.Fatal("a hole was passed")
	}
}
