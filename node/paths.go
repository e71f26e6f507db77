package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/fileop"
)

// Paths for completion at a prompt.

const (
	maxPaths   = 200     // told for one request
	maxNames   = 100_000 // of a directory looked at
	maxPrefix  = 4096    // bytes (PATH_MAX)
	pathsSoon  = 2 * time.Second
	maxListers = 4 // at once; a dead network file system may hold one for ever
)

// listers bounds who lists, in the whole process.
var listers = make(chan struct{}, maxListers)

var errListing = control.Errorf(control.NotReady, "type the path in full", "the directory is not listed in time")

// listPaths lists what a path may go on with. It opens nothing but directories, follows
// the links that stand in the path and none behind it, and never waits long.
func (n *Node) listPaths(ctx context.Context, r control.PathsRequest) (any, error) {
	if !filepath.IsAbs(r.Prefix) || len(r.Prefix) > maxPrefix || strings.ContainsRune(r.Prefix, 0) {
		return nil, control.Errorf(control.BadRequest, "", "paths: want an absolute path of at most %d bytes", maxPrefix)
	}
	ctx, cancel := context.WithTimeout(ctx, pathsSoon)
	defer cancel()
	select {
	case listers <- struct{}{}:
	case <-ctx.Done():
		return nil, errListing
	}
	type result struct {
		paths control.Paths
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-listers }()
		p, err := n.pathsFrom(r.Prefix)
		done <- result{p, err}
	}()
	select {
	case got := <-done:
		return got.paths, got.err
	case <-ctx.Done():
		return nil, errListing
	}
}

func (n *Node) pathsFrom(prefix string) (control.Paths, error) {
	i := strings.LastIndexByte(prefix, '/')
	dir, start := prefix[:i+1], prefix[i+1:]
	p := control.Paths{Paths: []string{}}
	names, more, err := n.namesIn(filepath.Clean(dir), start)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, errNoDir) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("list paths: %w", err)
	}
	slices.Sort(names)
	if len(names) > maxPaths {
		names, more = names[:maxPaths], true
	}
	for _, name := range names {
		p.Paths = append(p.Paths, dir+name)
	}
	p.More = more
	return p, nil
}

// namesIn lists the names of a directory that begin with start; those of directories end
// in a slash. A directory that is captured by a mount of this program is read beneath the
// mount: the daemon must not wait for itself.
func (n *Node) namesIn(dir, start string) (names []string, more bool, err error) {
	n.mu.Lock()
	c := n.findStacked(dir)
	n.mu.Unlock()
	if c != nil {
		return treeNames(c, strings.TrimPrefix(strings.TrimPrefix(dir, c.dir), "/"), start)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, false, noDir(err)
	}
	defer f.Close()
	const chunk = 1000
	for seen := 0; seen < maxNames; seen += chunk {
		list, err := f.ReadDir(chunk)
		for _, e := range list {
			if strings.HasPrefix(e.Name(), start) {
				names = append(names, slashed(e.Name(), e.IsDir()))
			}
		}
		if errors.Is(err, io.EOF) {
			return names, false, nil
		}
		if err != nil {
			return nil, false, noDir(err)
		}
	}
	return names, true, nil
}

// errNoDir: what should be a directory is something else.
var errNoDir = errors.New("no directory")

func noDir(err error) error {
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return errNoDir
	}
	return err
}

// treeNames is namesIn of a captured directory.
func treeNames(c *captured, rel, start string) (names []string, more bool, err error) {
	e, err := c.tree.Lookup(rel)
	if err != nil {
		return nil, false, noDir(err)
	}
	if !isDir(e) {
		return nil, false, errNoDir
	}
	d, err := c.tree.Dir(e)
	if err != nil {
		return nil, false, err
	}
	defer d.Close()
	all, err := d.Names()
	if err != nil {
		return nil, false, err
	}
	slices.Sort(all)
	for _, name := range all {
		if !strings.HasPrefix(name, start) {
			continue
		}
		if len(names) == maxPaths {
			return names, true, nil
		}
		if e, err := d.Entry(name); err == nil { // else it is gone by now
			names = append(names, slashed(name, isDir(e)))
		}
	}
	return names, false, nil
}

func isDir(e fileop.Entry) bool { return e.Attr.Mode&unix.S_IFMT == unix.S_IFDIR }

func slashed(name string, dir bool) string {
	if dir {
		return name + "/"
	}
	return name
}
