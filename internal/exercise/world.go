package exercise

import (
	"fmt"
	"math/rand/v2"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// world is what the workers believe to stand in the directory. It is often wrong, as
// they change it under each other; the kernel's answers put it right.
type world struct {
	dir   string
	limit int // files; above, none are made

	mu    sync.Mutex // guards the rest
	files []string   // relative paths of everything but directories
	dirs  []string   // relative paths; the first is "", the directory itself
}

const (
	maxFiles = 1500
	maxDirs  = 150
	maxDepth = 6 // components, so that paths stay far from PATH_MAX
)

func newWorld(dir string) *world { return &world{dir: dir, limit: maxFiles, dirs: []string{""}} }

func (w *world) abs(rel string) string { return filepath.Join(w.dir, rel) }

// file draws a path of something that is not a directory; ok is false if there is none.
func (w *world) file(r *rand.Rand) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.files) == 0 {
		return "", false
	}
	return w.files[r.IntN(len(w.files))], true
}

// subdir draws a directory that may be removed or moved.
func (w *world) subdir(r *rand.Rand) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.dirs) < 2 {
		return "", false
	}
	return w.dirs[1+r.IntN(len(w.dirs)-1)], true
}

// any draws a file, or now and then a directory, the root too.
func (w *world) any(r *rand.Rand) string {
	if f, ok := w.file(r); ok && r.IntN(5) > 0 {
		return f
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dirs[r.IntN(len(w.dirs))]
}

// fresh draws a path that may or may not exist, in a directory that likely does.
func (w *world) fresh(r *rand.Rand) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.dirs[r.IntN(len(w.dirs))]
	if strings.Count(d, "/") >= maxDepth {
		d = ""
	}
	return path.Join(d, name(r))
}

// name draws a name out of some hundreds, so that they collide; a few are odd.
func name(r *rand.Rand) string {
	n := r.IntN(150)
	switch r.IntN(40) {
	case 0:
		return fmt.Sprintf("long%0251d", n%10)
	case 1:
		return fmt.Sprintf("odd \xff\n%d", n%10)
	case 2:
		return fmt.Sprintf(".é%d", n%10)
	}
	return fmt.Sprintf("%c%d", 'a'+r.IntN(4), n)
}

// full says that the world is as large as it should become.
func (w *world) full() (files, dirs bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.files) >= w.limit, len(w.dirs) >= maxDirs
}

func (w *world) addFile(rel string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.files, rel) {
		w.files = append(w.files, rel)
	}
}

func (w *world) addDir(rel string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.dirs, rel) {
		w.dirs = append(w.dirs, rel)
	}
}

// remove forgets a path and everything below.
func (w *world) remove(rel string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.removeLocked(rel)
}

func (w *world) removeLocked(rel string) {
	gone := func(p string) bool { return rel != "" && (p == rel || strings.HasPrefix(p, rel+"/")) }
	w.files = slices.DeleteFunc(w.files, gone)
	w.dirs = slices.DeleteFunc(w.dirs, gone)
}

// move follows a rename.
func (w *world) move(from, to string) {
	if from == to {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.removeLocked(to)
	for _, list := range [][]string{w.files, w.dirs} {
		for i, p := range list {
			list[i] = moved(p, from, to)
		}
	}
}

// exchange follows a rename that exchanged two paths.
func (w *world) exchange(a, b string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, list := range [][]string{w.files, w.dirs} {
		for i, p := range list {
			if list[i] = moved(p, a, b); list[i] == p {
				list[i] = moved(p, b, a)
			}
		}
	}
}

func moved(p, from, to string) string {
	if p == from || strings.HasPrefix(p, from+"/") {
		return to + p[len(from):]
	}
	return p
}
