package repset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// Size of what a set selects: a snapshot, inexact where files changed meanwhile.
type Size struct {
	Files  int64 // everything that is not a directory, hard links once
	Dirs   int64 // selected ones, and those that lead to something selected
	Bytes  int64 // content of regular files, holes included
	Unread int64 // directories and names that could not be looked at
}

const (
	// measureStep is how many names are looked at between two calls of progress, and
	// how many are read from a directory at once.
	measureStep = 1024
	// measureLinks bounds the memory for files with several names (about 32 MiB).
	// Beyond it each name counts for its share of the bytes.
	measureLinks = 1 << 20
)

// Place is a root directory of a set and the path by which it is read: the same, or one
// that leads beneath a mount.
type Place struct{ Root, At string }

// Measure walks what the rules select below places, which are the roots of the rules. It
// does not follow links, does not leave the file system of a root, and ends early with
// the cause of ctx. progress, which may be nil, is called from the same goroutine now and
// then and at the end. A root that is not there is an error; what vanishes or is refused
// below it is not.
func Measure(ctx context.Context, rules *Rules, places []Place, progress func(Size)) (Size, error) {
	m := measurer{ctx: ctx, rules: rules, progress: progress, links: map[fileKey]struct{}{}}
	for _, p := range places {
		st, err := os.Stat(p.At)
		if err != nil {
			return m.size, fmt.Errorf("measure: %w", err)
		}
		if err := m.root(p, st); err != nil {
			return m.size, fmt.Errorf("measure %s: %w", p.Root, err)
		}
	}
	m.report()
	return m.size, nil
}

type fileKey struct{ dev, ino uint64 }

type measurer struct {
	ctx      context.Context
	rules    *Rules
	progress func(Size)
	size     Size
	seen     int // names since the last report
	links    map[fileKey]struct{}
}

func (m *measurer) report() {
	if m.progress != nil {
		m.progress(m.size)
	}
	m.seen = 0
}

func (m *measurer) root(root Place, st fs.FileInfo) error {
	dev := uint64(0)
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		dev = uint64(sys.Dev)
	}
	m.size.Dirs++
	pending := []Place{root} // directories yet to be read; depth first keeps it short
	for len(pending) > 0 {
		dir := pending[len(pending)-1]
		found, err := m.dir(dir, dev)
		if err != nil {
			return err
		}
		pending = append(pending[:len(pending)-1], found...)
	}
	return nil
}

// dir counts what stands in one directory and returns the directories to read next.
func (m *measurer) dir(dir Place, dev uint64) ([]Place, error) {
	f, err := os.Open(dir.At)
	if err != nil {
		m.lost(err)
		return nil, nil
	}
	defer f.Close()
	var below []Place
	for {
		entries, err := f.ReadDir(measureStep)
		for _, e := range entries {
			if m.seen++; m.seen >= measureStep {
				if m.report(); m.ctx.Err() != nil {
					return nil, context.Cause(m.ctx)
				}
			}
			p := path.Join(dir.Root, e.Name())
			if m.entry(p, e, dev) {
				below = append(below, Place{p, path.Join(dir.At, e.Name())})
			}
		}
		if m.ctx.Err() != nil {
			return nil, context.Cause(m.ctx)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				m.lost(err)
			}
			return below, nil
		}
	}
}

// entry counts one name; true if it is a directory to read.
func (m *measurer) entry(p string, e fs.DirEntry, dev uint64) bool {
	if e.IsDir() {
		if !m.rules.Leads(p) {
			return false
		}
	} else if !m.rules.Selects(p, false) {
		return false
	}
	info, err := e.Info()
	if err != nil {
		m.lost(err)
		return false
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	if info.IsDir() {
		m.size.Dirs++
		return !ok || uint64(sys.Dev) == dev
	}
	bytes := int64(0)
	if info.Mode().IsRegular() {
		bytes = info.Size()
	}
	if ok && sys.Nlink > 1 {
		key := fileKey{uint64(sys.Dev), sys.Ino}
		if _, seen := m.links[key]; seen {
			return false
		}
		if len(m.links) < measureLinks {
			m.links[key] = struct{}{}
		} else {
			bytes /= int64(sys.Nlink)
		}
	}
	m.size.Files++
	m.size.Bytes += bytes
	return false
}

func (m *measurer) lost(err error) {
	if !errors.Is(err, fs.ErrNotExist) {
		m.size.Unread++
	}
}
