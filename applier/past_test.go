package applier

import (
	"errors"
	"testing"

	"understudy/fileop"
)

// TestRebuildInventsNoDate (G90): where a rebuild ends while a mirror sends a file, the file
// has the date it had on the source, and not that of an unfinished file or of the rebuild.
func TestRebuildInventsNoDate(t *testing.T) {
	for _, past := range []bool{true, false} {
		cfg := testConfig(t, t.TempDir())
		cfg.Past = past
		s := newScript(t, 1, 10)
		r := startRig(t, cfg, s)
		half := fileAttr(0o640, 5)
		half.Mtime = fileop.HalfSent
		s.add(fileop.Op{Kind: fileop.Gap},
			fileop.Op{Kind: fileop.Create, Obj: id(20), Parent: rootID, Name: "f", Attr: fileAttr(0o640, 5), PMtime: at(1)},
			fileop.Op{Kind: fileop.Write, Obj: id(20), Data: []byte("abcd"), Mtime: at(5)},
			fileop.Op{Kind: fileop.MirrorEntry, Obj: id(20), Parent: rootID, Name: "f", Attr: half, Mtime: at(5), Len: 4, Nlink: 1})
		r.settled()
		date := "0.1"
		if past {
			date = "1000000005.6"
		}
		wantTree(t, r.dir, ". 40755 0:0 1000000001.2", "f 100640 0:0 "+date+` 1 "abcd"`)
		if !past {
			_, err := r.Clone(t.Context(), CloneConfig{StateDir: t.TempDir(), Paths: map[uint32]string{0: t.TempDir()}, Finished: true})
			if !errors.Is(err, ErrUnfinished) {
				t.Errorf("a copy of a half sent file: %v", err)
			}
			continue
		}
		s.add(fileop.Op{Kind: fileop.MirrorBlock, Obj: id(20), Off: 2, Data: []byte("ef")})
		r.settled()
		wantTree(t, r.dir, ". 40755 0:0 1000000001.2", "f 100640 0:0 "+date+` 1 "abef"`)
	}
}

// TestBaseKeepsItsMirrorRun (G91): a past state from the middle of a mirror stays whole when a
// process is killed that reads it or applies operations to it, as the mirror's records come
// again; a live target needs another mirror then.
func TestBaseKeepsItsMirrorRun(t *testing.T) {
	for _, past := range []bool{true, false} {
		cfg := testConfig(t, t.TempDir())
		cfg.Past = past
		s := newScript(t, 1, 10)
		r := startRig(t, cfg, s)
		entry := fileop.Op{Kind: fileop.MirrorEntry, Obj: id(20), Parent: rootID, Name: "f", Attr: fileAttr(0o640, 5), Mtime: at(5), Len: 4, Nlink: 1}
		s.add(fileop.Op{Kind: fileop.Gap}, fileop.Op{Kind: fileop.MirrorBegin, Len: 1}, fileop.Op{Kind: fileop.MirrorEnd, Len: 1},
			fileop.Op{Kind: fileop.MirrorBegin, Len: 2}, entry,
			fileop.Op{Kind: fileop.Create, Obj: id(21), Parent: rootID, Name: "g", Attr: fileAttr(0o640, 5), PMtime: at(1)})
		r.settled()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			a, err := Open(cfg, quiet())
			if err != nil {
				t.Fatal(err)
			}
			a.release()
		}
		r, err := openRecovered(deadline(t), t, cfg, s)
		if err != nil {
			t.Fatal(err)
		}
		if pos := r.Position(); pos.Usable() != past || pos.Run != 2 || pos.RunBroken == past {
			t.Errorf("past %t: after the kill: %+v", past, pos)
		}
		s.add(fileop.Op{Kind: fileop.MirrorBlock, Obj: id(20), Off: 0, Data: []byte("abcd")}, fileop.Op{Kind: fileop.MirrorEnd, Len: 2})
		r.settled()
		if pos := r.Position(); pos.Usable() != past || pos.Run != 0 {
			t.Errorf("past %t: after the mirror: %+v", past, pos)
		}
	}
}
