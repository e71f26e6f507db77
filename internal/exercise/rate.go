package exercise

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// maxKnown bounds the files that were there before and Rate works on.
const maxKnown = 4000

// rateOps is what editors, builds and databases do, weighted for trouble.
var rateOps = []stressOp{
	{"create", 10, (*worker).create}, {"write", 25, (*worker).write}, {"append", 10, (*worker).appendData},
	{"open", 8, (*worker).openFile}, {"rename", 12, (*worker).replace}, {"rename", 6, (*worker).moveDir},
	{"rename", 4, (*worker).bringIn}, {"rename", 4, rename(0)}, {"exchange", 2, rename(unix.RENAME_EXCHANGE)},
	{"truncate", 5, (*worker).truncate}, {"truncate", 3, (*worker).ftruncate}, {"unlink", 8, (*worker).unlink},
	{"mkdir", 3, (*worker).mkdir}, {"rmdir", 1, (*worker).rmdir}, {"link", 2, (*worker).link}, {"symlink", 1, (*worker).symlink},
	{"chmod", 2, (*worker).chmod}, {"utimens", 2, (*worker).utimens}, {"setxattr", 2, (*worker).setxattr},
}

// Rate changes what is in dir perSecond times a second until stop is closed: writes,
// files replaced by a rename, truncations, deletions, directories moved about and whole
// ones brought in. What is there already takes part. Where the directory is too slow
// for the rate, changes are left out rather than caught up with.
func Rate(dir string, seed int64, perSecond int, stop <-chan struct{}) (Stats, error) {
	w := &worker{world: newWorld(dir), opt: StressOptions{MaxFileSize: 128 << 10, Stop: stop}, stats: newStats(), r: newRand(seed)}
	if err := w.load(); err != nil {
		return w.stats, fmt.Errorf("rate %s: %w", dir, err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	defer func() {
		for len(w.fds) > 0 {
			w.drop(0)
		}
	}()
	due, last := 0.0, time.Now()
	for {
		select {
		case <-stop:
			return w.stats, nil
		case now := <-tick.C:
			due += now.Sub(last).Seconds() * float64(perSecond)
			last = now
		}
		for due = min(due, float64(perSecond)/10+1); due >= 1; due-- {
			if err := w.one(rateOps); err != nil {
				return w.stats, fmt.Errorf("rate %s, seed %d: %w", dir, seed, err)
			}
		}
	}
}

// load learns what is in the directory.
func (w *worker) load() error {
	err := filepath.WalkDir(w.world.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(w.world.dir, p)
		switch {
		case err != nil || rel == ".":
		case d.IsDir():
			w.world.dirs = append(w.world.dirs, rel)
		default:
			w.world.files = append(w.world.files, rel)
		}
		return err
	})
	files, dirs := w.world.files, w.world.dirs[1:]
	w.r.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	w.r.Shuffle(len(dirs), func(i, j int) { dirs[i], dirs[j] = dirs[j], dirs[i] })
	w.world.files = files[:min(len(files), maxKnown)]
	w.world.dirs = w.world.dirs[:1+min(len(dirs), maxKnown/10)]
	w.world.limit = len(w.world.files) + maxFiles
	return err
}

// replace writes a new file beside an old one and renames it over.
func (w *worker) replace() error {
	rel, ok := w.world.file(w.r)
	if !ok {
		return errSkip
	}
	dir, _ := splitDir(rel)
	tmp := filepath.Join(dir, fmt.Sprintf(".new%d", w.trace.n))
	w.trace.add("replace %q through %q", rel, tmp)
	if err := w.openAs(tmp, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, false); err != nil {
		w.forget(rel, err)
		return err
	}
	if err := writeAll(w.fds[len(w.fds)-1].fd, w.data(32<<10), 0); err != nil {
		return err
	}
	err := retry(func() error { return unix.Rename(w.world.abs(tmp), w.world.abs(rel)) })
	if err == nil {
		w.world.move(tmp, rel)
		w.world.addFile(rel)
	}
	return err
}

// moveDir moves a directory with all it holds to another place.
func (w *worker) moveDir() error {
	from, ok := w.world.subdir(w.r)
	if !ok {
		return errSkip
	}
	to := w.world.fresh(w.r)
	w.trace.add("move directory %q to %q", from, to)
	err := retry(func() error { return unix.Rename(w.world.abs(from), w.world.abs(to)) })
	w.renamed(from, to, 0, err)
	return err
}

// bringIn fills a new directory and moves it, under another name, into a random place.
func (w *worker) bringIn() error {
	if files, dirs := w.world.full(); files || dirs {
		return errSkip
	}
	from := fmt.Sprintf(".in%d", w.trace.n)
	to := w.world.fresh(w.r)
	w.trace.add("bring in %q", to)
	if err := retry(func() error { return unix.Mkdir(w.world.abs(from), 0o755) }); err != nil {
		return err
	}
	w.world.addDir(from)
	for i := range 1 + w.r.IntN(5) {
		if err := w.openAs(fmt.Sprintf("%s/f%d", from, i), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, false); err != nil {
			return err
		}
		if err := writeAll(w.fds[len(w.fds)-1].fd, w.data(8<<10), 0); err != nil {
			return err
		}
	}
	err := retry(func() error { return unix.Rename(w.world.abs(from), w.world.abs(to)) })
	w.renamed(from, to, 0, err)
	return err
}
