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
		half.Mtime = unfinished
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
