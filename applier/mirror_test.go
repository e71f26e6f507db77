package applier

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"understudy/fileop"
	"understudy/internal/digest"
	"understudy/internal/fsx"
)

// TestMirror brings leftovers, moved, linked and removed objects to what the source has.
func TestMirror(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig(t, dir)
	target := cfg.Roots[0].Path
	os.MkdirAll(filepath.Join(target, "leftdir", "deep"), 0o755)
	os.MkdirAll(filepath.Join(target, "wasdir", "deep"), 0o755)
	os.WriteFile(filepath.Join(target, "left"), []byte("0123456789 old tail"), 0o600)
	os.WriteFile(filepath.Join(target, "orphan"), nil, 0o600)
	os.Symlink("/nowhere", filepath.Join(target, "was"))
	s := newScript(t, 1, 3)
	r := startRig(t, cfg, s)
	file := func(n uint64, parent fileop.ObjID, name, data string, nlink uint32) fileop.Op {
		return fileop.Op{Kind: fileop.MirrorEntry, Flags: fileop.FlagWhole, Obj: id(n), Parent: parent, Name: name, Attr: fileAttr(0o640, 5),
			Data: []byte(data), Len: int64(len(data)), Nlink: nlink}
	}
	s.add(
		fileop.Op{Kind: fileop.Gap},
		fileop.Op{Kind: fileop.MirrorBegin, Len: 1},
		fileop.Op{Kind: fileop.MirrorEntry, Obj: rootID, Attr: dirAttr(0o711, 1)},
		fileop.Op{Kind: fileop.MirrorEntry, Obj: id(10), Parent: rootID, Name: "leftdir", Attr: dirAttr(0o750, 2)},
		fileop.Op{Kind: fileop.MirrorEntry, Obj: id(11), Parent: rootID, Name: "left", Attr: fileAttr(0o644, 3), Len: 12, Nlink: 1},
		fileop.Op{Kind: fileop.Write, Obj: id(11), Off: 0, Data: []byte("L"), Mtime: at(50)}, // live, between
		fileop.Op{Kind: fileop.MirrorBlock, Obj: id(11), Off: 10, Data: []byte("XY")},
		fileop.Op{Kind: fileop.MirrorFileEnd, Obj: id(11), Len: 12, Attr: fileAttr(0o644, 51), Xattrs: []fileop.Xattr{{Name: "user.k", Value: []byte("v")}}},
		file(12, rootID, "was", "content", 1),
		file(13, rootID, "wasdir", "now a file", 2),
		file(13, id(10), "second", "now a file", 2),
		file(14, id(10), "gone", "soon", 1),
		fileop.Op{Kind: fileop.MirrorEntry, Obj: id(15), Parent: rootID, Name: "lnk", Data: []byte("a/b"), Attr: &fileop.Attr{Mode: unix.S_IFLNK | 0o777, Mtime: at(7)}},
		fileop.Op{Kind: fileop.MirrorDir, Obj: rootID, Names: []string{"leftdir", "left"}, Flags: fileop.FlagMore},
		fileop.Op{Kind: fileop.MirrorDir, Obj: rootID, Names: []string{"was", "wasdir", "lnk"}},
		fileop.Op{Kind: fileop.MirrorDirEnd, Obj: rootID, Attr: dirAttr(0o711, 60)},
		fileop.Op{Kind: fileop.MirrorDirEnd, Obj: id(10), Attr: dirAttr(0o750, 61)},
		fileop.Op{Kind: fileop.MirrorEnd, Len: 1},
	)
	r.settled()
	if p := r.Position(); !p.Usable() || r.Stats().Orphans != 1 {
		t.Errorf("after the mirror: %+v %+v", p, r.Stats())
	}
	wantTree(t, target,
		". 40711 0:0 1000000060.61",
		`left 100644 0:0 1000000051.52 1 "L123456789XY" user.k=76`,
		"leftdir 40750 0:0 1000000061.62",
		"leftdir/deep "+statText(t, filepath.Join(target, "leftdir/deep")),
		`leftdir/gone 100640 0:0 1000000005.6 1 "soon"`,
		`leftdir/second 100640 0:0 1000000005.6 2 "now a file"`,
		"lnk 120777 0:0 1000000007.8 -> a/b",
		"orphan "+statText(t, filepath.Join(target, "orphan"))+` 1 ""`,
		`was 100640 0:0 1000000005.6 1 "content"`,
		`wasdir 100640 0:0 1000000005.6 2 "now a file" = leftdir/second`)
	if st := r.Stats(); st.MovedAside != 1 {
		t.Errorf("the directory in the way was not moved aside: %+v", st)
	}
	// A second run: 14 moved to the root, the directory's list does not have it any more;
	// the second name of 13 is gone; 12's content changed.
	s.add(
		fileop.Op{Kind: fileop.MirrorBegin, Len: 2},
		fileop.Op{Kind: fileop.MirrorDir, Obj: id(10), Names: []string{"nothing"}},
		fileop.Op{Kind: fileop.MirrorEntry, Obj: id(14), Parent: rootID, Name: "moved", Attr: fileAttr(0o640, 5), Nlink: 1, Len: 4},
		fileop.Op{Kind: fileop.MirrorDirEnd, Obj: id(10), Attr: dirAttr(0o750, 61)},
		fileop.Op{Kind: fileop.MirrorDirEnd, Obj: rootID, Attr: dirAttr(0o711, 62)},
		fileop.Op{Kind: fileop.MirrorEnd, Len: 2},
	)
	r.settled()
	got := treeText(t, target)
	for _, want := range []string{`moved 100640 0:0 1000000005.6 1 "soon"`, `wasdir 100640 0:0 1000000005.6 1 "now a file"`, ". 40711 0:0 1000000062.63"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, "leftdir/gone") {
		t.Errorf("removed name is still there:\n%s", got)
	}
}

func statText(t *testing.T, path string) string {
	line := treeText(t, filepath.Dir(path))
	for _, l := range strings.Split(line, "\n") {
		if rest, ok := strings.CutPrefix(l, filepath.Base(path)+" "); ok {
			rest, _, _ = strings.Cut(rest, ` 1 "`)
			return rest
		}
	}
	return ""
}

func TestListAndDigests(t *testing.T) {
	s := newScript(t, 1, 5)
	r := startRig(t, testConfig(t, t.TempDir()), s)
	s.add(fileop.Op{Kind: fileop.Gap},
		fileop.Op{Kind: fileop.Create, Obj: id(11), Parent: rootID, Name: "b", Attr: fileAttr(0o644, 1), PMtime: at(1), Xattrs: []fileop.Xattr{{Name: "user.q", Value: []byte("1")}}},
		fileop.Op{Kind: fileop.Write, Obj: id(11), Data: []byte("0123456789"), Mtime: at(2)},
		fileop.Op{Kind: fileop.Symlink, Obj: id(12), Parent: rootID, Name: "a", Data: []byte("t"), Attr: &fileop.Attr{Mode: unix.S_IFLNK | 0o777, Mtime: at(3)}, PMtime: at(3)})
	r.settled()
	os.WriteFile(filepath.Join(r.dir, "c"), nil, 0o600)
	ctx := deadline(t)
	l, err := r.List(ctx, fileop.ListQuery{Obj: rootID})
	if err != nil || !l.Known || len(l.Entries) != 3 || l.Entries[0].Target != "t" || l.Entries[1].Obj != id(11) || !l.Entries[2].Obj.IsZero() {
		t.Fatalf("list %+v %v", l, err)
	}
	if l.Entries[1].Attr.Mtime != at(2) || l.Entries[1].Xattrs != digest.Xattrs([]fileop.Xattr{{Name: "user.q", Value: []byte("1")}}) {
		t.Errorf("entry %+v", l.Entries[1])
	}
	if same, err := r.List(ctx, fileop.ListQuery{Obj: rootID, Sum: digest.Dir(l.Entries)}); err != nil || !same.Same {
		t.Errorf("same %+v %v", same, err)
	}
	content := []fileop.Sum{{}, digest.Block([]byte("0123456789")), {}}
	if same, err := r.List(ctx, fileop.ListQuery{Obj: rootID, Sum: digest.Content(l.Entries, content), Content: true}); err != nil || !same.Same {
		t.Errorf("same with content %+v %v", same, err)
	}
	content[1][0] ^= 1
	if same, err := r.List(ctx, fileop.ListQuery{Obj: rootID, Sum: digest.Content(l.Entries, content), Content: true}); err != nil || same.Same || len(same.Entries) != 3 {
		t.Errorf("other content is %+v %v", same, err)
	}
	if next, err := r.List(ctx, fileop.ListQuery{Obj: rootID, From: "a"}); err != nil || len(next.Entries) != 2 {
		t.Errorf("second page %+v %v", next, err)
	}
	if no, err := r.List(ctx, fileop.ListQuery{Obj: id(77)}); err != nil || no.Known {
		t.Errorf("unknown directory %+v %v", no, err)
	}
	d, err := r.Digests(ctx, fileop.DigestQuery{Obj: id(11), Len: 100, Block: 4})
	if err != nil || d.Size != 10 || len(d.Sums) != 3 || d.Sums[2] != digest.Block([]byte("89")) {
		t.Errorf("digests %+v %v", d, err)
	}
	whole, err := r.Digests(ctx, fileop.DigestQuery{Block: 512, Files: []fileop.ObjID{id(12), id(11), id(77)}})
	if none := (fileop.Sum{}); err != nil || len(whole.Sums) != 3 || whole.Sums[0] != none || whole.Sums[1] != digest.Block([]byte("0123456789")) || whole.Sums[2] != none {
		t.Errorf("digests of whole files %+v %v", whole, err)
	}
	// A query waits for its mirror record.
	got := make(chan fileop.ListReply, 1)
	go func() {
		l, _ := r.List(ctx, fileop.ListQuery{Obj: rootID, After: 1})
		got <- l
	}()
	s.add(fileop.Op{Kind: fileop.MirrorEntry, Flags: fileop.FlagWhole, Obj: id(20), Parent: rootID, Name: "z", Attr: fileAttr(0o600, 1), Nlink: 1})
	r.settled()
	if l := <-got; len(l.Entries) != 4 {
		t.Errorf("list after the record: %+v", l)
	}
}

// The merge gives one order however the lanes arrive.
func TestDecideMerges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var order []fileop.Op
		var lanes [2][]fileop.Op
		var n [2]fileop.Seq
		for range rapid.IntRange(1, 60).Draw(rt, "records") {
			l := rapid.IntRange(0, 1).Draw(rt, "lane")
			n[l]++
			op := fileop.Op{Seq: n[l], Other: n[1-l], Kind: fileop.Write, Off: int64(l)}
			order = append(order, op)
			lanes[l] = append(lanes[l], op)
		}
		var got []fileop.Op
		var arrived, taken [2]int
		head := func(l int) *fileop.Op {
			if taken[l] < arrived[l] {
				return &lanes[l][taken[l]]
			}
			return nil
		}
		for len(got) < len(order) {
			if l := rapid.IntRange(0, 1).Draw(rt, "arrives"); arrived[l] < len(lanes[l]) {
				arrived[l]++
			}
			for {
				var l int
				switch decide(fileop.Seq(taken[0]), fileop.Seq(taken[1]), 0, head(0), head(1)) {
				case applyQueue:
					l = 0
				case applyMirror:
					l = 1
				case dropMirror:
					rt.Fatal("record dropped")
				default:
					l = -1
				}
				if l < 0 {
					break
				}
				got = append(got, *head(l))
				taken[l]++
			}
		}
		for i := range order {
			if got[i].Off != order[i].Off || got[i].Seq != order[i].Seq {
				rt.Fatalf("record %d is lane %d number %d", i, got[i].Off, got[i].Seq)
			}
		}
	})
}

// A lost mirror record holds the queue until the abort further back in the queue, or the
// node, says that it will not come.
func TestMirrorAbort(t *testing.T) {
	for _, inBand := range []bool{true, false} {
		s := newScript(t, 1, 1)
		s.add(fileop.Op{Kind: fileop.Gap}, fileop.Op{Kind: fileop.MirrorBegin, Len: 1},
			fileop.Op{Kind: fileop.MirrorEntry, Flags: fileop.FlagWhole, Obj: id(20), Parent: rootID, Name: "lost", Attr: fileAttr(0o600, 1), Nlink: 1})
		s.mframes = nil // lost on the way
		r := startRig(t, testConfig(t, t.TempDir()), s)
		s.add(fileop.Op{Kind: fileop.Create, Obj: id(21), Parent: rootID, Name: "f", Attr: fileAttr(0o600, 1), PMtime: at(1)})
		if inBand {
			s.add(fileop.Op{Kind: fileop.MirrorAbort, Len: 1})
		} else {
			s.send()
			if err := r.Settled(deadline(t), 2); err != nil {
				t.Fatal(err)
			}
			r.AbortMirror(1)
		}
		s.add(fileop.Op{Kind: fileop.MirrorEnd, Len: 1})
		r.settled()
		if p := r.Position(); p.Mirrored || p.MirrorApplied != 1 {
			t.Errorf("position %+v", p)
		}
		if _, err := os.Stat(filepath.Join(r.dir, "f")); err != nil {
			t.Error(err)
		}
		r.stop()
	}
}

// G: a full disk holds up, keeps the order and heals by itself; every errno at every
// system call either heals or is reported.
func TestFaults(t *testing.T) {
	errnos := []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS, unix.EBUSY, unix.EINTR, unix.EAGAIN, unix.ENOMEM, unix.EMFILE,
		unix.EACCES, unix.ESTALE, unix.EXDEV}
	m := newModel(newRand(7))
	for range 60 {
		m.step()
	}
	for _, no := range errnos {
		for n := int64(1); ; n += 5 {
			if !faultAt(t, m, no, n) {
				break
			}
		}
	}
}

// faultAt applies the model's operations with system call n failing; it reports whether
// that many calls were made.
func faultAt(t *testing.T, m *model, no unix.Errno, n int64) bool {
	dir := memDir(t)
	defer os.RemoveAll(dir)
	cfg := testConfig(t, dir)
	cfg.RetryEvery = 1
	cfg.CheckpointEvery = 1e12
	f := &faulty{n: n, err: no}
	cfg.Fault = f.fault
	s := newScript(t, 1, 1000)
	s.add(m.ops...)
	a, err := Open(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	r := runRig(t, a, cfg, s)
	r.settled()
	got, p, st := treeText(t, r.dir), r.Position(), r.Stats()
	r.kill()
	if got != m.text() && !p.Remirror {
		t.Fatalf("%s at call %d (%s) passed unseen: %+v\n%s\nwant\n%s", no, n, f.step, st, got, m.text())
	}
	if _, wait := waitErrnos[no]; wait && p.Remirror && f.step != fsx.StepSync {
		t.Fatalf("%s at call %d (%s) was not healed: %+v", no, n, f.step, st)
	}
	return f.hit.Load()
}

func TestDiskFullWaits(t *testing.T) {
	cfg := testConfig(t, t.TempDir())
	full := &faulty{err: unix.ENOSPC, only: fsx.StepWrite}
	full.always.Store(true)
	cfg.Fault = full.fault
	events := make(chan Event, 100)
	cfg.OnEvent = func(e Event) { events <- e }
	s := newScript(t, 1, 5)
	r := startRig(t, cfg, s)
	s.add(fileop.Op{Kind: fileop.Gap},
		fileop.Op{Kind: fileop.Create, Obj: id(11), Parent: rootID, Name: "b", Attr: fileAttr(0o644, 1), PMtime: at(1)},
		fileop.Op{Kind: fileop.Write, Obj: id(11), Data: []byte("x"), Mtime: at(2)},
		fileop.Op{Kind: fileop.Unlink, Obj: id(11), Parent: rootID, Name: "b", Last: true, PMtime: at(3)})
	s.send()
	if e := <-events; e.Kind != EventDiskFull || e.Seq != 3 {
		t.Fatalf("event %+v", e)
	}
	if !r.Stats().Retrying || r.Position().Applied != 2 {
		t.Errorf("%+v %+v", r.Stats(), r.Position())
	}
	// Requests are answered meanwhile, and a stop is not held up.
	ctx, cancel := context.WithTimeout(deadline(t), 50)
	defer cancel()
	_, _ = r.Digests(ctx, fileop.DigestQuery{Obj: id(11), Len: 1, Block: 1})
	full.always.Store(false)
	r.settled()
	if e := <-events; e.Kind != EventCured || r.Stats().Retrying {
		t.Errorf("event %+v, %+v", e, r.Stats())
	}
}
