package applier

import (
	"slices"
	"strings"
	"testing"

	"understudy/fileop"
)

// TestEntryTakesThePlaceOfWhatItIsIn: a mirror's entry brings an object to the place of a
// directory that it is in on the target: as a further name, by a move, and as a directory
// that changes places with the one it is in. What was in that directory is kept until the
// mirror has said where it is now.
func TestEntryTakesThePlaceOfWhatItIsIn(t *testing.T) {
	for name, c := range map[string]struct {
		entries []fileop.Op
		want    []string
	}{
		"link": {[]fileop.Op{
			{Kind: fileop.MirrorEntry, Obj: id(11), Parent: rootID, Name: "d", Attr: fileAttr(0o640, 5), Len: 4, Nlink: 2},
			{Kind: fileop.MirrorEntry, Obj: id(10), Parent: rootID, Name: "was", Attr: dirAttr(0o750, 2)},
		}, []string{`d 100640 0:0 1000000005.6 2 "kept"`, "was 40750", "was/e 40750", `was/e/g 100640 0:0 1000000005.6 1 "too"`,
			`was/f 100640 0:0 1000000005.6 2 "kept" = d`}},
		"move": {[]fileop.Op{
			{Kind: fileop.MirrorEntry, Obj: id(11), Parent: rootID, Name: "d", Attr: fileAttr(0o640, 5), Len: 4, Nlink: 1},
			{Kind: fileop.MirrorEntry, Obj: id(10), Parent: rootID, Name: "was", Attr: dirAttr(0o750, 2)},
		}, []string{`d 100640 0:0 1000000005.6 1 "kept"`, "was 40750", "was/e 40750", `was/e/g 100640 0:0 1000000005.6 1 "too"`}},
		"directory": {[]fileop.Op{
			{Kind: fileop.MirrorEntry, Obj: id(12), Parent: rootID, Name: "d", Attr: dirAttr(0o750, 2)},
			{Kind: fileop.MirrorEntry, Obj: id(10), Parent: id(12), Name: "was", Attr: dirAttr(0o750, 2)},
		}, []string{"d 40750", `d/g 100640 0:0 1000000005.6 1 "too"`, "d/was 40750", `d/was/f 100640 0:0 1000000005.6 1 "kept"`}},
		"made anew": {[]fileop.Op{
			{Kind: fileop.MirrorEntry, Flags: fileop.FlagWhole, Obj: id(20), Parent: rootID, Name: "d", Attr: fileAttr(0o640, 5), Data: []byte("new"), Len: 3, Nlink: 1},
			{Kind: fileop.MirrorEntry, Obj: id(10), Parent: rootID, Name: "was", Attr: dirAttr(0o750, 2)},
		}, []string{`d 100640 0:0 1000000005.6 1 "new"`, "was 40750", "was/e 40750", `was/e/g 100640 0:0 1000000005.6 1 "too"`,
			`was/f 100640 0:0 1000000005.6 1 "kept"`}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, t.TempDir())
			s := newScript(t, 1, 3)
			r := startRig(t, cfg, s)
			whole := func(n uint64, parent fileop.ObjID, name, data string) fileop.Op {
				return fileop.Op{Kind: fileop.MirrorEntry, Flags: fileop.FlagWhole, Obj: id(n), Parent: parent, Name: name, Attr: fileAttr(0o640, 5),
					Data: []byte(data), Len: int64(len(data)), Nlink: 1}
			}
			s.add(
				fileop.Op{Kind: fileop.Gap},
				fileop.Op{Kind: fileop.MirrorBegin, Len: 1},
				fileop.Op{Kind: fileop.MirrorEntry, Obj: rootID, Attr: dirAttr(0o711, 1)},
				fileop.Op{Kind: fileop.MirrorEntry, Obj: id(10), Parent: rootID, Name: "d", Attr: dirAttr(0o750, 2)},
				fileop.Op{Kind: fileop.MirrorEntry, Obj: id(12), Parent: id(10), Name: "e", Attr: dirAttr(0o750, 2)},
				whole(11, id(10), "f", "kept"),
				whole(13, id(12), "g", "too"),
				fileop.Op{Kind: fileop.MirrorEnd, Len: 1},
				fileop.Op{Kind: fileop.MirrorBegin, Len: 2},
			)
			s.add(c.entries...)
			s.add(fileop.Op{Kind: fileop.MirrorEnd, Len: 2})
			r.settled()
			if p := r.Position(); !p.Usable() {
				t.Errorf("after the mirror: %+v", p)
			}
			wantNames(t, cfg.Roots[0].Path, c.want...)
		})
	}
}

// wantNames is wantTree without the root, and without the owners and times of directories.
func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(treeText(t, dir)) {
		f := strings.Fields(line)
		switch {
		case f[0] == ".":
		case strings.HasPrefix(f[1], "40"):
			got = append(got, f[0]+" "+f[1])
		default:
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("tree is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
