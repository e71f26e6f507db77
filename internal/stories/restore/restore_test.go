package restore

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/internal/exercise"
	"understudy/repset"
)

func rules(t testing.TB, text ...string) (out []repset.Rule) {
	for _, s := range text {
		r, err := repset.ParseRule(s)
		must(t, err)
		out = append(out, r)
	}
	return out
}

// fill writes n files of some kilobytes, an hour old.
func fill(t *testing.T, dir, content string, n int) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	for i := range n {
		path := filepath.Join(dir, "file-"+strconv.Itoa(i))
		b := make([]byte, 20_000+i*500)
		copy(b, content)
		must(t, os.WriteFile(path, b, 0o644))
		must(t, os.Chtimes(path, old, old))
	}
}

// held is the beginning of a file; "" if there is none.
func held(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return ""
	}
	must(t, err)
	return string(b[:7])
}

// TestKilledRestorationsOverwriteNothingNewer (G61): whichever machine is killed, at any
// moment, in the end every file that was newer on the source is as it was, and every other
// one is the replica's.
func TestKilledRestorationsOverwriteNothingNewer(t *testing.T) {
	p := newPair(t)
	const files = 120
	fill(t, p.Dir, "replica", files)
	p.replicated()
	rng := rand.New(rand.NewPCG(5, 6))
	for round := range rounds(8, 100) {
		want := p.laid(files, false, rng)
		id := p.restore(control.RestoreRequest{Checksum: round%2 == 0})
		time.Sleep(time.Duration(rng.IntN(80)) * time.Millisecond) // the kill comes at any moment
		if round%2 == 0 {
			p.Target.Again()
		} else {
			p.Source.Again()
		}
		if rep := p.over(id); rep.State != "done" {
			t.Fatalf("round %d: %+v", round, rep)
		}
		for path, content := range want {
			if got := held(t, path); got != content {
				t.Fatalf("round %d: %s holds %q, want %q", round, path, got, content)
			}
		}
	}
}

// TestRestoreToAFullDisk (G61): it waits for space, and what was there is whole.
func TestRestoreToAFullDisk(t *testing.T) {
	p := newPair(t)
	fill(t, p.Dir, "replica", 150) // 8.6 MB
	p.replicated()
	must(t, os.RemoveAll(p.Dir))
	must(t, os.Mkdir(p.Dir, 0o755))
	must(t, unix.Mount("understudy-full", p.Dir, "tmpfs", 0, "size=4m,mode=755"))
	t.Cleanup(func() { _ = unix.Unmount(p.Dir, unix.MNT_DETACH) })
	newer := filepath.Join(p.Dir, "file-7")
	must(t, os.WriteFile(newer, []byte("source!"), 0o644))
	id := p.restore(control.RestoreRequest{})
	waitFor(p.T, "a full disk that is told", func() bool {
		var st control.Status
		p.Source.Ask("status", struct{}{}, &st)
		return len(st.Replicas) == 1 && st.Replicas[0].LastError != ""
	})
	if got := held(t, newer); got != "source!" {
		t.Fatalf("a newer file holds %q", got)
	}
	must(t, unix.Mount("understudy-full", p.Dir, "tmpfs", unix.MS_REMOUNT, "size=64m"))
	if rep := p.over(id); rep.State != "done" {
		t.Fatalf("%+v", rep)
	}
	for i := range 150 {
		want := "replica"
		if i == 7 {
			want = "source!"
		}
		if got := held(t, filepath.Join(p.Dir, "file-"+strconv.Itoa(i))); got != want {
			t.Fatalf("file-%d holds %q, want %q", i, got, want)
		}
	}
}

// TestBlankMachineIsRestored (G61): a machine that lost its data directory as well gets its
// data and, by a second command, its replication set from the target's copy.
func TestBlankMachineIsRestored(t *testing.T) {
	p := newPair(t)
	job := exercise.Job{Kind: "stress", Dir: p.Dir, Seed: 11, Workers: 2, Ops: 1500}
	_, err := job.RunChild(t.Context())
	must(t, err)
	p.replicated()
	p.Source.Kill()
	for _, dir := range []string{p.Dir, p.Source.Cfg.Data} {
		must(t, os.RemoveAll(dir))
		must(t, os.Mkdir(dir, 0o700))
	}
	p.Source.Start()
	var invite control.InviteReply // the new machine has a new key
	p.Target.Ask("pair.remove", control.NameRequest{Name: "indy"}, nil)
	p.Target.Ask("pair.invite", control.InviteRequest{}, &invite)
	p.Source.Ask("pair.join", control.JoinRequest{Address: p.Target.D.Addr(), Code: invite.Code}, nil)
	if rep := p.over(p.restore(control.RestoreRequest{})); rep.State != "done" {
		t.Fatalf("%+v", rep)
	}
	same(t, p.Replica, p.Dir)
	var list control.BackupList
	p.Target.Ask("repset.backups", control.NameRequest{Name: "indy"}, &list)
	set := list.Backups[0].Set
	set.Generation = 0
	p.Source.Ask("repset.save", set, nil)
	p.Connect(control.ConnectRequest{Adopt: true, Mirror: "diff"})
	p.Settle()
	same(t, p.Dir, p.Replica)
}

// TestRestoreToAnotherMachineAndPlace (G61): ORIGINAL, TO and MAP.
func TestRestoreToAnotherMachineAndPlace(t *testing.T) {
	p := newPair(t)
	fill(t, p.Dir, "replica", 20)
	must(t, os.Symlink(filepath.Join(p.Dir, "file-3"), filepath.Join(p.Dir, "link")))
	p.replicated()
	titan := p.Machine("titan")
	titan.Start()
	var invite control.InviteReply
	p.Target.Ask("pair.invite", control.InviteRequest{}, &invite)
	titan.Ask("pair.join", control.JoinRequest{Address: p.Target.D.Addr(), Code: invite.Code}, nil)
	place := filepath.Join(p.Base, "new")
	var rep control.Restore
	req := control.RestoreRequest{Action: "start", Set: "tree", Original: "indy", To: "titan", Address: titan.D.Addr(), Map: map[string]string{p.Dir: place}}
	p.Target.Ask("restore", req, &rep)
	if rep = p.over(rep.ID); rep.State != "done" || rep.To != "titan" {
		t.Fatalf("%+v", rep)
	}
	for i := range 20 {
		if got := held(t, filepath.Join(place, "file-"+strconv.Itoa(i))); got != "replica" {
			t.Fatalf("file-%d holds %q", i, got)
		}
	}
	if to, err := os.Readlink(filepath.Join(place, "link")); err != nil || to != filepath.Join(place, "file-3") {
		t.Errorf("the link leads to %q (%v)", to, err)
	}
	req.Original = "nobody"
	if err := p.Target.Try("restore", req, &rep); err == nil {
		t.Error("a replica of a machine that has none is restored")
	}
}

// TestKilledSearchesRemoveNoFile (G37): whichever machine is killed while orphans are
// removed, nothing of the source's is missing afterwards.
func TestKilledSearchesRemoveNoFile(t *testing.T) {
	p := newPair(t)
	fill(t, p.Dir, "source!", 60)
	for i := range 20 {
		must(t, os.MkdirAll(filepath.Join(p.Dir, "dir-"+strconv.Itoa(i), "sub"), 0o755))
		fill(t, filepath.Join(p.Dir, "dir-"+strconv.Itoa(i)), "source!", 5)
	}
	p.Connect(control.ConnectRequest{Rules: p.All()})
	p.Settle()
	rng := rand.New(rand.NewPCG(7, 8))
	for round := range rounds(6, 200) {
		for i := range 20 {
			at := filepath.Join(p.Replica, "dir-"+strconv.Itoa(i))
			must(t, os.MkdirAll(filepath.Join(at, "orphan", "in"), 0o755))
			must(t, os.WriteFile(filepath.Join(at, "orphan", "in", "file"), []byte("x"), 0o644))
			must(t, os.WriteFile(filepath.Join(at, "orphan-file"), []byte("x"), 0o644))
		}
		p.Source.Ask("orphans", control.OrphansRequest{ID: p.Con, Action: "start"}, nil)
		time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond) // the kill comes at any moment
		if round%2 == 0 {
			p.Target.Again()
		} else {
			p.Source.Again()
		}
		p.Settle()
		waitFor(p.T, "search", func() bool {
			return p.Source.Try("orphans", control.OrphansRequest{ID: p.Con, Action: "start"}, nil) == nil
		})
		waitFor(p.T, "end of the search", func() bool {
			var rep control.VerifyReport
			p.Source.Ask("orphans", control.OrphansRequest{ID: p.Con, Action: "status", WaitMS: 10_000}, &rep)
			if rep.State == "failed" || rep.State == "done" && rep.Totals.Spared > 0 {
				t.Fatalf("round %d: %+v", round, rep)
			}
			return rep.State == "done"
		})
		p.Settle()
		same(t, p.Dir, p.Replica)
	}
}
