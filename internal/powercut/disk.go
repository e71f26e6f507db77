package powercut

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Disk is a mounted file system whose power can be cut. Snapshot may be called while
// others work on it; the rest by one goroutine.
type Disk struct {
	s     *Store
	fs    string // "ext4" or "xfs"
	at    string
	image string
}

// Image is the content of a disk at the instant of a power cut.
type Image struct{ path string }

// Disk makes a file system of this kind and size in bytes, mounted at a new directory.
func (s *Store) Disk(fs, name string, size int64) *Disk {
	s.t.Helper()
	s.disks++
	d := &Disk{s: s, fs: fs, at: filepath.Join(s.base, name), image: filepath.Join(s.dir, fmt.Sprintf("disk%d", s.disks))}
	s.must(os.Mkdir(d.at, 0o755))
	s.must(sparse(d.image, size))
	if fs == "xfs" { // blocks and sectors of 4 KiB: no smaller ones can be written past the cache
		s.run("mkfs.xfs", "-q", "-s", "size=4096", "-m", "reflink=1", d.image)
	} else {
		s.run("mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.image)
	}
	d.mount()
	return d
}

// At is where the disk is mounted, over cuts too.
func (d *Disk) At() string { return d.at }

func (d *Disk) mount() {
	d.s.t.Helper()
	dev := d.s.attach(d.image, d.at, d.fs, "--direct-io=on", "--sector-size", "4096")
	dio, err := os.ReadFile("/sys/block/" + filepath.Base(dev) + "/loop/dio")
	if err != nil || strings.TrimSpace(string(dio)) != "1" {
		d.s.t.Fatalf("%s writes through a cache: %s %v; a cut would lose too little", dev, dio, err)
	}
}

// Snapshot is what a power cut would leave now.
func (d *Disk) Snapshot() (Image, error) {
	d.s.snaps++
	i := Image{filepath.Join(d.s.dir, fmt.Sprintf("snap%d", d.s.snaps))}
	return i, clone(d.image, i.path)
}

// Cut makes i the content of the disk: it is unmounted, everything written after i is
// gone, and it is mounted again at the same place. Nobody may use it meanwhile.
func (d *Disk) Cut(i Image) {
	d.s.t.Helper()
	d.unmount()
	d.s.must(os.Remove(d.image))
	d.image = i.path
	d.mount()
}

func (d *Disk) unmount() {
	d.s.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := unix.Unmount(d.at, 0)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			d.s.t.Fatalf("unmount %s: %v", d.at, err)
		}
		time.Sleep(5 * time.Millisecond) // a killed process still lets go
	}
}
