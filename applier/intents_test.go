package applier

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/fileop"
	"understudy/internal/failpoint"
)

// firstMirror is a mirror beside live changes into a directory where somebody has files:
// "left" is taken over with what is in it.
func firstMirror() []fileop.Op {
	whole := func(n uint64, parent fileop.ObjID, name string) fileop.Op {
		return fileop.Op{Kind: fileop.MirrorEntry, Flags: fileop.FlagWhole, Obj: id(n), Parent: parent, Name: name,
			Attr: fileAttr(0o640, 5), Data: []byte(name), Len: int64(len(name)), Nlink: 1}
	}
	dir := func(n uint64, name string) fileop.Op {
		return fileop.Op{Kind: fileop.MirrorEntry, Obj: id(n), Parent: rootID, Name: name, Attr: dirAttr(0o755, 1)}
	}
	return []fileop.Op{
		{Kind: fileop.Gap},
		{Kind: fileop.MirrorBegin, Len: 1},
		{Kind: fileop.MirrorEntry, Obj: rootID, Attr: dirAttr(0o755, 1)},
		dir(10, "left"),
		whole(11, id(10), "ours"),
		dir(12, "d"),
		whole(13, id(12), "g"),
		{Kind: fileop.Create, Obj: id(14), Parent: id(10), Name: "live", Attr: fileAttr(0o600, 2), PMtime: at(2)},
		{Kind: fileop.Rename, Obj: id(14), Parent: id(10), Name: "live", Parent2: id(12), Name2: "moved", PMtime: at(3), PMtime2: at(3)},
		whole(13, rootID, "m"), // it moved on the source
		{Kind: fileop.Mkdir, Obj: id(15), Parent: rootID, Name: "e", Attr: dirAttr(0o755, 4), PMtime: at(4)},
		whole(16, id(15), "deep"),
		{Kind: fileop.Link, Obj: id(16), Parent: id(10), Name: "second", PMtime: at(5)},
		{Kind: fileop.MirrorDir, Obj: id(12), Names: []string{"none"}},
		whole(17, id(12), "late"),
		{Kind: fileop.Unlink, Obj: id(11), Parent: id(10), Name: "ours", Last: true, PMtime: at(6)},
		whole(18, id(10), "again"),
	}
}

// lastMirror finds nothing on the source but the directory taken over.
func lastMirror() []fileop.Op {
	return []fileop.Op{
		{Kind: fileop.Gap},
		{Kind: fileop.MirrorBegin, Len: 2},
		{Kind: fileop.MirrorEntry, Obj: rootID, Attr: dirAttr(0o755, 1)},
		{Kind: fileop.MirrorEntry, Obj: id(10), Parent: rootID, Name: "left", Attr: dirAttr(0o755, 1)},
		{Kind: fileop.MirrorDir, Obj: rootID, Names: []string{"left"}},
		{Kind: fileop.MirrorDir, Obj: id(10), Names: []string{"none"}},
		{Kind: fileop.MirrorDirEnd, Obj: id(10), Attr: dirAttr(0o755, 7)},
		{Kind: fileop.MirrorDirEnd, Obj: rootID, Attr: dirAttr(0o755, 8)},
		{Kind: fileop.MirrorEnd, Len: 2},
	}
}

// theirs are the operator's files: there before the first mirror, made while the target
// was down, and made after its restart.
var theirs = []string{"left/theirs", "theirs", "left/down", "down/file", "later"}

func operatorMakes(t testing.TB, dir string, names ...string) {
	t.Helper()
	for _, n := range names {
		path := filepath.Join(dir, n)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("theirs"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// killedMirror kills the first mirror before system call n, with a checkpoint after the
// first queue operations; then comes another epoch, whose mirror finds nothing of it any
// more. It returns the names left and whether the kill came.
func killedMirror(t *testing.T, n int64, from fileop.Seq) (names string, killed bool) {
	dir := memDir(t)
	defer os.RemoveAll(dir)
	cfg := testConfig(t, dir)
	cfg.CheckpointEvery = 1e15
	target := cfg.Roots[0].Path
	operatorMakes(t, target, theirs[:2]...)
	k := newKiller(t, 1<<40)
	cfg.Fault = k.fault
	s := newScript(t, 1, 1)
	s.add(firstMirror()...)
	s.send()
	r := checkpointAt(t, cfg, s, from)
	k.left.Store(n)
	r.Resume()
	killed = r.awaitAll(s.q.Next()-1, s.m.Next()-1)
	r.kill()

	operatorMakes(t, target, theirs[2:4]...)
	cfg.Fault, cfg.Epoch = nil, 2
	s = newScript(t, 2, 1)
	r, err := openRecovered(deadline(t), t, cfg, s)
	if err != nil {
		t.Fatal(err)
	}
	operatorMakes(t, target, theirs[4:]...)
	s.add(lastMirror()...)
	r.settled()
	if st := r.Stats(); st.MovedAside > 0 {
		t.Errorf("killed before call %d: %d leftovers were taken for somebody's", n, st.MovedAside)
	}
	names = strings.Join(filesBelow(t, target), " ")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".understudy*")); len(left) > 0 {
		t.Errorf("killed before call %d: left in staging: %v", n, left)
	}
	return names, killed
}

// awaitAll is awaitEnd for both lanes.
func (r *rig) awaitAll(q, m fileop.Seq) (killed bool) {
	ctx, cancel := context.WithCancel(deadline(r.t))
	defer cancel()
	go func() {
		select {
		case <-r.stopped:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := r.waitFor(ctx, func() bool { return r.shown.Applied >= q && r.shown.MirrorApplied >= m })
	return errors.Is(err, context.Canceled)
}

func filesBelow(t testing.TB, root string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(root, path)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

const theirsSorted = "down/file later left/down left/theirs theirs"

// G13: whatever a mirror and live changes had made on the target when it was killed, at
// any system call, is told from what somebody else made, before, meanwhile or afterwards:
// the first goes when the source has it no more, the second stays.
func TestKilledMirrorLeavesNothing(t *testing.T) {
	kills := 0
	for _, from := range []fileop.Seq{1, 2, 4} {
		for n := int64(0); ; n++ {
			names, killed := killedMirror(t, n, from)
			if names != theirsSorted {
				t.Fatalf("checkpoint at %d, killed before call %d: left are %s, want %s", from, n, names, theirsSorted)
			}
			kills++
			if !killed {
				break
			}
		}
	}
	t.Logf("%d kills", kills)
}

// The test above notices when names are made without a word before.
func TestKilledMirrorNeedsIntents(t *testing.T) {
	if err := failpoint.Arm(string(failpoint.PlantNoIntent)); err != nil {
		t.Fatal(err)
	}
	defer failpoint.Arm("")
	for n := int64(0); ; n++ {
		names, killed := killedMirror(t, n, 2)
		if names != theirsSorted {
			return
		}
		if !killed {
			t.Fatal("nothing was left, although nothing was written down")
		}
	}
}

// An intent survives its encoding; other bytes, a torn end among them, end the log.
func TestIntentLog(t *testing.T) {
	dir := t.TempDir()
	l, err := openIntents(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	gen, err := l.begin()
	if err != nil {
		t.Fatal(err)
	}
	want := []intent{
		{tree: 3, flags: intentTree, objs: [2]fileop.ObjID{id(1), id(2)}, places: [2]place{{id(3), "a"}, {fileop.ObjID{}, "p-1"}}},
		{flags: intentAdopt, objs: [2]fileop.ObjID{id(4)}, ident: id(5)},
		{places: [2]place{{id(6), strings.Repeat("x", 255)}}},
	}
	for i := range want {
		for range 2 { // a retry adds nothing
			if err := l.write(&want[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	size := l.size
	l.close()
	path := filepath.Join(dir, "intents-0")
	raw, err := os.ReadFile(path)
	if err != nil || int64(len(raw)) != size {
		t.Fatalf("%d bytes, want %d: %v", len(raw), size, err)
	}
	for cut := len(raw); cut >= 0; cut-- {
		checkIntents(t, path, gen, raw[:cut], want)
	}
	for i := range raw {
		checkIntents(t, path, gen, append(append(bytes.Clone(raw[:i]), raw[i]^0x40), raw[i+1:]...), want)
	}
}

// checkIntents reads a damaged log: what it gives is a beginning of want.
func checkIntents(t *testing.T, path string, gen uint64, raw []byte, want []intent) {
	t.Helper()
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := openIntents(filepath.Dir(path), gen)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	n := 0
	complete, err := l.read(func(in *intent) {
		if n >= len(want) || *in != want[n] {
			t.Fatalf("intent %d of %d bytes is %+v", n, len(raw), *in)
		}
		n++
	})
	if err != nil || complete && len(raw) < intentHeader {
		t.Fatalf("%d bytes: complete %v, %v", len(raw), complete, err)
	}
}

// Files are used again once a checkpoint is durable, and not before.
func TestIntentFilesAreReused(t *testing.T) {
	l, err := openIntents(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	for round := range 10 {
		gen, err := l.begin()
		if err != nil {
			t.Fatal(err)
		}
		if err := l.write(&intent{tree: uint32(gen)}); err != nil {
			t.Fatal(err)
		}
		if round%2 == 1 {
			l.durable(gen)
		}
		var seen []uint32
		if _, err := l.read(func(in *intent) { seen = append(seen, in.tree) }); err != nil {
			t.Fatal(err)
		}
		for g := max(l.keep, 1); g <= gen; g++ {
			if len(seen) == 0 || uint64(seen[0]) != g {
				t.Fatalf("generations %v, want %d to %d", seen, l.keep, gen)
			}
			seen = seen[1:]
		}
	}
	if len(l.files) > 3 {
		t.Errorf("%d files", len(l.files))
	}
}
