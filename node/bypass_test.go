package node

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/capture/fanotify"
	"understudy/event"
	"understudy/internal/exercise"
)

// TestBypassConverges (G18): what reaches the directory beneath a stacked mount without
// passing through it is noticed, told, and sent: by descriptors opened before the mount,
// and by another way to the same file system.
func TestBypassConverges(t *testing.T) {
	needRoot(t)
	p := newPair(t, true)
	if err := fanotify.Possible(p.dir); err != nil {
		t.Skipf("fanotify: %v", err)
	}
	beneath := filepath.Join(p.base, "beneath")
	must(t, os.Mkdir(beneath, 0o755))
	must(t, unix.Mount(p.dir, beneath, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(beneath, unix.MNT_DETACH) })
	must(t, unix.Mount("", beneath, "", unix.MS_PRIVATE, ""))
	put(t, filepath.Join(p.dir, "held"), "before the mount")
	held, err := os.OpenFile(filepath.Join(p.dir, "held"), os.O_RDWR, 0)
	must(t, err)
	defer held.Close()
	p.mount()
	p.connect()
	p.settle()
	do(exercise.Job{Kind: "stress", Dir: p.dir, Seed: 9, Workers: 2, Ops: 1000}, t, true)
	p.settle()
	if n := len(p.told(event.CaptureBypassed)); n > 0 {
		t.Fatalf("%d changes past the mount, and there were none", n)
	}
	_, err = held.Seek(4, io.SeekStart)
	must(t, err)
	other := exec.Command("sh", "-c", `printf "past it" >&3; mkdir -p new/sub; echo made past the mount > new/sub/f; mv new/sub moved`)
	other.Dir, other.ExtraFiles = beneath, []*os.File{held}
	if out, err := other.CombinedOutput(); err != nil { // not this process: what it does passed through the mount
		t.Fatalf("%v\n%s", err, out)
	}
	p.follow()
	same(t, beneath, p.replica)
	if t.Failed() {
		t.Fatal(p.where())
	}
	if n := len(p.told(event.CaptureBypassed)); n == 0 {
		t.Error("the operator was not told")
	}
	do(exercise.Job{Kind: "stress", Dir: p.dir, Seed: 10, Workers: 2, Ops: 1000}, t, true)
	p.settle()
	same(t, beneath, p.replica)
}

// told lists the source's events of one kind.
func (p *pair) told(id event.ID) (out []event.Event) {
	p.t.Helper()
	rows, _, err := p.source.events.List(0, 100000)
	must(p.t, err)
	for _, e := range rows {
		if e.ID == id {
			out = append(out, e)
		}
	}
	return out
}
