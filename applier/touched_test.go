package applier

import (
	"context"
	"os"
	"slices"
	"testing"

	"understudy/fileop"
	"understudy/internal/failpoint"
)

func touchedIDs(f *InFlight) (out []uint64) {
	for _, id := range f.IDs {
		out = append(out, id.Ino)
	}
	slices.Sort(out)
	return out
}

func touch(s *touchedSet, seq fileop.Seq, inos ...uint64) {
	for _, ino := range inos {
		s.add(&fileop.Op{Kind: fileop.Write, Seq: seq, Obj: fileop.ObjID{Ino: ino, Gen: 1}})
		seq++
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The set holds at least what came after the clean position, over restarts too; what
// lies before it is forgotten one step later.
func TestTouchedSince(t *testing.T) {
	dir := t.TempDir()
	s, past, err := openTouched(dir, 7, false)
	noError(t, err)
	if past != nil {
		t.Fatalf("a past without a past: %+v", past)
	}
	touch(s, 1, 10, 11, 10)
	noError(t, s.advance(0, 0)) // the source's disk holds nothing for sure
	touch(s, 4, 12)
	noError(t, s.advance(3, 0)) // operations 1 to 3
	touch(s, 5, 13)
	f := s.inFlight()
	if f.Seq != 3 || f.All || !slices.Equal(touchedIDs(f), []uint64{12, 13}) {
		t.Fatalf("in flight %+v", f)
	}
	noError(t, s.write(*s.take()))
	s.close()

	s, past, err = openTouched(dir, 7, false) // the same epoch goes on
	noError(t, err)
	if f := s.inFlight(); past != nil || f.All || f.Seq != 3 || !slices.Equal(touchedIDs(f), []uint64{12, 13}) {
		t.Fatalf("after a restart %+v, past %+v", f, past)
	}
	touch(s, 6, 14)
	s.close() // not written: a kill

	s, _, err = openTouched(dir, 7, true)
	noError(t, err)
	if f := s.inFlight(); !f.All {
		t.Fatalf("after a kill %+v", f)
	}
	touch(s, 7, 15)
	noError(t, s.advance(5, 0))
	noError(t, s.advance(7, 0))
	touch(s, 8, 16)
	if f := s.inFlight(); f.All || f.Seq != 7 || !slices.Equal(touchedIDs(f), []uint64{16}) {
		t.Fatalf("two words after a kill %+v", f)
	}
	noError(t, s.write(*s.take()))
	s.close()

	s, past, err = openTouched(dir, 8, false) // a new epoch
	noError(t, err)
	defer s.close()
	if past == nil || past.Epoch != 7 || past.All || past.Seq != 7 || !slices.Equal(touchedIDs(past), []uint64{16}) {
		t.Fatalf("past %+v", past)
	}
	left, err := os.ReadDir(dir)
	noError(t, err)
	if len(left) != 1 {
		t.Fatalf("left: %v", left)
	}
}

// A set that cannot be read, and one that is too large, is everything.
func TestTouchedDegrades(t *testing.T) {
	dir := t.TempDir()
	s, _, err := openTouched(dir, 7, false)
	noError(t, err)
	touch(s, 1, 10)
	noError(t, s.write(*s.take()))
	noError(t, os.WriteFile(s.path(s.present().no), []byte("no list"), 0o600))
	s.close()
	s, past, err := openTouched(dir, 7, false)
	noError(t, err)
	if past != nil && !past.All || past == nil && !s.inFlight().All {
		t.Fatalf("a damaged set: %+v, past %+v", s.inFlight(), past)
	}
	s.close()

	s, _, err = openTouched(t.TempDir(), 9, false)
	noError(t, err)
	defer s.close()
	s.count = maxTouched - 1
	touch(s, 1, 1, 2, 3)
	if f := s.inFlight(); !f.All {
		t.Fatalf("past the limit: %d objects", len(f.IDs))
	}
	noError(t, s.advance(3, 0))
	if f := s.inFlight(); f.All {
		t.Fatal("everything counts as touched for good")
	}
}

// The applier notes what it applies, and hands it out to the next epoch; with the fault
// planted it does not.
func TestAppliedIsInFlight(t *testing.T) {
	for _, plant := range []failpoint.Plant{"", failpoint.PlantNoTouched} {
		noError(t, failpoint.Arm(string(plant)))
		t.Cleanup(func() { _ = failpoint.Arm("") })
		cfg := testConfig(t, t.TempDir())
		s := newScript(t, 1, 10)
		r := startRig(t, cfg, s)
		s.add(fileop.Op{Kind: fileop.Gap}, fileop.Op{Kind: fileop.MirrorBegin, Len: 1},
			fileop.Op{Kind: fileop.MirrorEntry, Flags: fileop.FlagWhole, Obj: id(20), Parent: rootID, Name: "f", Attr: fileAttr(0o600, 1), Nlink: 1},
			fileop.Op{Kind: fileop.MirrorEnd, Len: 1})
		r.settled()
		for range 2 {
			noError(t, r.Clean(context.Background(), r.Position().Applied, r.Position().MirrorApplied))
		}
		s.add(fileop.Op{Kind: fileop.Create, Obj: id(21), Parent: rootID, Name: "g", Attr: fileAttr(0o600, 1), PMtime: at(1), Nlink: 1})
		r.settled()
		noError(t, r.stop())
		cfg.Epoch = 2
		r = startRig(t, cfg, newScript(t, 2, 10))
		past := r.Past()
		known := past != nil && !past.All && past.Epoch == 1 && len(past.IDs) == 1 && past.IDs[0] == id(21)
		if known != (plant == "") {
			t.Fatalf("fault %q: past %+v", plant, past)
		}
	}
}
