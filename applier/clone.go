package applier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// CloneConfig says where a copy of a replica goes.
type CloneConfig struct {
	StateDir string
	Paths    map[uint32]string // target directory of each tree; empty directories, made if missing
	// Want is asked about the position that would be copied; its error ends the call. Nil:
	// any will do.
	Want func(Position) error
	// Progress is told what was copied so far, after each object and each 64 MiB; its error
	// ends the copying.
	Progress func(objects uint64, bytes int64) error
	Log      *slog.Logger
	NoSync   bool // as Config.NoSync, for the copy
	// Finished: a file whose content is still to come ends the copying with ErrUnfinished.
	Finished bool
}

// ErrUnfinished: a mirror is sending a file.
var ErrUnfinished = errors.New("the content of a file is still to come")

// cloneStep is how much content is copied between two looks at ctx.
const cloneStep = 64 << 20

// Clone copies everything that came from the source, with a catalog for it, so that an
// applier can be opened there that goes on from the position returned. The applier stands
// still meanwhile. Content is shared where the file system can (FICLONE). Either Run is
// under way, or nobody else uses the applier. What others put on the target is not copied.
func (a *Applier) Clone(ctx context.Context, cfg CloneConfig) (pos Position, err error) {
	a.mu.Lock()
	running, stopped := a.running, a.stopped
	a.mu.Unlock()
	if !running {
		a.ctx = ctx
		return a.clone(ctx, &cfg)
	}
	done := make(chan struct{})
	e := a.do(ctx, func() {
		defer close(done)
		both, cancel := context.WithCancel(ctx)
		defer context.AfterFunc(a.ctx, cancel)()
		defer cancel()
		pos, err = a.clone(both, &cfg)
	})
	if e != nil {
		return pos, e
	}
	select {
	case <-done:
	case <-stopped:
		select { // it may have been the last thing done
		case <-done:
		default:
			return pos, ErrClosed
		}
	}
	return pos, err
}

// cloner copies one tree after another.
type cloner struct {
	cfg     *CloneConfig
	ctx     context.Context
	from    *Applier
	to      *Applier
	links   map[key]string // of objects with several names, the first copied, below the root
	objects uint64
	bytes   int64
	skipped uint64
}

func (a *Applier) clone(ctx context.Context, cfg *CloneConfig) (Position, error) {
	if a.unclean {
		return Position{}, ErrRecover
	}
	if cfg.Want != nil {
		if err := cfg.Want(a.pos); err != nil {
			return a.pos, err
		}
	}
	if err := a.checkpointNow(ctx); err != nil {
		return a.pos, fmt.Errorf("copy replica: %w", err)
	}
	dst := Config{StateDir: cfg.StateDir, Epoch: a.pos.Epoch, NoSync: cfg.NoSync}
	for _, r := range a.cfg.Roots {
		t := a.trees[r.Tree]
		dst.Roots = append(dst.Roots, Root{Tree: r.Tree, Source: t.Source, Path: cfg.Paths[r.Tree]})
	}
	log := cfg.Log
	if log == nil {
		log = a.log
	}
	to, err := Open(dst, log)
	if err != nil {
		return a.pos, fmt.Errorf("copy replica: %w", err)
	}
	to.ctx = ctx
	c := &cloner{cfg: cfg, ctx: ctx, from: a, to: to}
	for _, r := range a.cfg.Roots {
		if err = c.tree(a.trees[r.Tree], to.trees[r.Tree]); err != nil {
			break
		}
	}
	if err == nil && c.skipped > 0 {
		a.log.Warn("objects not copied, others changed them on the target", "count", c.skipped)
	}
	if err != nil {
		to.release()
		return a.pos, fmt.Errorf("copy replica: %w", err)
	}
	to.pos = a.pos
	return a.pos, to.Close()
}

// tree copies one target directory and its objects without a name.
func (c *cloner) tree(s, d *tree) error {
	c.links = map[key]string{}
	if nameless := c.from.cat.children(s.Tree, fileop.ObjID{}); len(nameless) > 0 {
		sfd, err := s.stage(&c.from.at, func() error { return nil })
		if err != nil {
			return err
		}
		dfd, err := d.stage(&c.to.at, func() error { return nil })
		if err != nil {
			return err
		}
		if err := c.names(s, d, fileop.ObjID{}, sfd, dfd, "", nameless); err != nil {
			return err
		}
		clear(c.links) // the staging directory is not below the root
	}
	if err := c.dir(s, d, s.Source, s.fd, d.fd, ""); err != nil {
		return err
	}
	return c.attrs(s.fd, d.fd)
}

// dir copies what is in one directory; at is its path below the root.
func (c *cloner) dir(s, d *tree, id fileop.ObjID, sfd, dfd int, at string) error {
	return c.names(s, d, id, sfd, dfd, at, c.from.cat.children(s.Tree, id))
}

func (c *cloner) names(s, d *tree, dir fileop.ObjID, sfd, dfd int, at string, names map[string]fileop.ObjID) error {
	for name, id := range names {
		if err := c.ctx.Err(); err != nil {
			return context.Cause(c.ctx)
		}
		o := c.from.cat.get(key{s.Tree, id})
		if o == nil {
			continue
		}
		p := place{dir, name}
		if err := c.object(s, d, o, p, sfd, dfd, filepath.Join(at, name)); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(at, name), err)
		}
		if c.to.cat.dirty.count >= maxDirty {
			if err := c.to.checkpointNow(c.ctx); err != nil {
				return err
			}
		}
		c.objects++
		if err := c.progress(); err != nil {
			return err
		}
	}
	return c.from.cat.err
}

func (c *cloner) progress() error {
	if c.cfg.Progress == nil {
		return nil
	}
	return c.cfg.Progress(c.objects, c.bytes)
}

// object copies one name.
func (c *cloner) object(s, d *tree, o *object, p place, sdir, ddir int, at string) error {
	fd, err := c.from.at.Open(sdir, p.name, unix.O_PATH, 0)
	if isGone(err) {
		c.skipped++
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	id, st, err := c.from.at.Identify(fd, "")
	if err != nil {
		return err
	}
	if id != o.ident {
		c.skipped++
		return nil
	}
	if first, ok := c.links[o.key]; ok {
		if err := c.to.at.Link(d.fd, first, ddir, p.name); err != nil {
			return err
		}
		c.to.cat.bind(c.to.cat.get(o.key), p)
		return nil
	}
	if err := c.make(s, d, o, p, fd, sdir, ddir, &st, at); err != nil {
		return err
	}
	dfd, err := c.to.at.Open(ddir, p.name, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dfd)
	if err := c.attrs(fd, dfd); err != nil {
		return err
	}
	ident, _, err := c.to.at.Identify(dfd, "")
	if err != nil {
		return err
	}
	n := &object{key: o.key, kind: o.kind, ident: ident, defACL: o.defACL}
	c.to.cat.bind(n, p)
	if len(o.names) > 1 && !p.parent.IsZero() {
		c.links[o.key] = at
	}
	return nil
}

// make makes the object, without attributes; a directory with what is in it.
func (c *cloner) make(s, d *tree, o *object, p place, fd, sdir, ddir int, st *unix.Stat_t, at string) error {
	switch st.Mode & typeBits {
	case unix.S_IFREG:
		return c.file(sdir, ddir, p.name, st.Size)
	case unix.S_IFLNK:
		var b [unix.PathMax]byte
		n, err := unix.Readlinkat(fd, "", b[:])
		if err != nil {
			return fmt.Errorf("read link: %w", err)
		}
		return c.to.at.Symlink(string(b[:n]), ddir, p.name)
	case unix.S_IFDIR:
		if err := c.to.at.Mkdir(ddir, p.name, 0o700); err != nil {
			return err
		}
		dfd, err := c.to.at.Open(ddir, p.name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(dfd)
		return c.dir(s, d, o.id, fd, dfd, at)
	}
	return c.to.at.Mknod(ddir, p.name, st.Mode, st.Rdev)
}

// attrs gives dst owner, mode, extended attributes and time of src.
func (c *cloner) attrs(src, dst int) error {
	st, err := c.from.at.Stat(src, "")
	if err != nil {
		return err
	}
	xs, err := c.from.at.Xattrs(src)
	if err != nil && st.Mode&typeBits != unix.S_IFLNK {
		return err
	}
	now, err := c.to.at.Stat(dst, "")
	if err != nil {
		return err
	}
	at := fsx.AttrOf(&st)
	if c.cfg.Finished && at.Mtime == fileop.HalfSent && st.Mode&typeBits == unix.S_IFREG {
		return ErrUnfinished
	}
	if err := c.to.setAttrs(dst, &now, &at, xs, true); err != nil {
		return err
	}
	return c.to.at.Utimes(dst, "", at.Mtime)
}

// file copies a file's content, by sharing it if that works.
func (c *cloner) file(sdir, ddir int, name string, size int64) error {
	src, err := c.from.at.Open(sdir, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := c.to.at.Open(ddir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	if size == 0 {
		return nil
	}
	if c.to.at.Clone(src, dst) == nil {
		return nil
	}
	return c.content(src, dst, size)
}

// content copies what is not a hole.
func (c *cloner) content(src, dst int, size int64) error {
	for off := int64(0); off < size; {
		from, err := unix.Seek(src, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return fmt.Errorf("find content: %w", err)
		}
		to, err := unix.Seek(src, from, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("find hole: %w", err)
		}
		for to = min(to, size); from < to; from += cloneStep {
			n := min(cloneStep, to-from)
			if err := c.from.copyData(src, from, dst, from, n); err != nil {
				return err
			}
			c.bytes += n
			if err := errors.Join(c.progress(), c.ctx.Err()); err != nil {
				return err
			}
		}
		off = to
	}
	return c.to.at.Truncate(dst, size)
}

// Rebooted reports whether the machine was started anew since the last stop.
func (a *Applier) Rebooted() bool { return a.rebooted }
