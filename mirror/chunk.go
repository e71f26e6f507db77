package mirror

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"understudy/fileop"
)

// Opener is a Dir that opens a regular file with its entry at once. File is nil for
// everything else.
type Opener interface {
	OpenEntry(name string) (fileop.Entry, File, error)
}

// readers read the small files of a directory at the same time, so that one's disk
// time is another's processor time.
var readers = min(4, max(2, runtime.NumCPU()))

// chunk is the names of one lock hold, shared by the readers.
type chunk struct {
	r     *run
	f     *frame
	d     Dir
	at    spot
	names []string
	next  atomic.Int64
	bytes atomic.Int64

	mu    sync.Mutex // guards the rest
	dirs  []frame
	files []frame
	sent  bool
	gone  bool
	err   error
}

// chunk sends the next entries of a directory, small files with content, and returns
// the directories among them.
func (r *run) chunk(f *frame, d Dir) ([]frame, error) {
	covered, err := r.page(f)
	if err == nil {
		err = r.credit(r.estimate)
	}
	if err != nil {
		return nil, err
	}
	c := &chunk{r: r, f: f, d: d, at: spot{root: f.root, parent: f.e.Obj, dir: f.dir},
		names: f.names[f.pos : f.pos+min(covered, chunkNames)]}
	err = d.WithLock(func() error {
		var wg sync.WaitGroup
		for range min(readers, len(c.names)) - 1 {
			wg.Go(c.read)
		}
		c.read()
		wg.Wait()
		return c.err
	})
	done := min(int(c.next.Load()), len(c.names))
	clear(f.names[f.pos : f.pos+done]) // what was read is needed no more
	f.pos += done
	f.sent = f.sent || c.sent
	f.gone = f.gone || c.gone
	r.files = append(r.files, c.files...)
	r.estimate = min(chunkBytes, int(c.bytes.Load())+recordOverhead)
	return c.dirs, err
}

// read takes names until none is left or the lock hold is long enough.
func (c *chunk) read() {
	for c.bytes.Load() < chunkBytes {
		i := c.next.Add(1) - 1
		if i >= int64(len(c.names)) {
			return
		}
		n, err := c.one(c.names[i])
		c.bytes.Add(int64(n + recordOverhead))
		switch {
		case err == nil:
		case gone(err):
			c.note(func() { c.gone = true })
		case isFatal(err):
			c.mu.Lock()
			c.err = err
			c.mu.Unlock()
			return
		default:
			c.r.unread(c.f.root, join(c.f.dir, c.names[i]), err)
		}
	}
}

// look looks at a name and opens it if it is a regular file that is read in any case.
func (c *chunk) look(name string) (fileop.Entry, File, error) {
	if o, ok := c.d.(Opener); ok && !c.compares() {
		return o.OpenEntry(name)
	}
	e, err := c.d.Entry(name)
	return e, nil, err
}

func (c *chunk) compares() bool { return c.r.opts.Mode == Diff && !c.f.fresh && !c.f.only }

// one sends one name's entry.
func (c *chunk) one(name string) (n int, err error) {
	e, file, err := c.look(name)
	if file != nil {
		defer file.Close()
	}
	if err != nil {
		return 0, err
	}
	if !c.r.m.place(c.f.root).selectsEntry(c.f.dir, &e) {
		return 0, nil
	}
	if !isDir(e.Attr.Mode) {
		c.r.m.prog.files.Add(1)
	}
	if c.compares() {
		return c.differing(e, file)
	}
	return c.send(e, file, frame{fresh: c.f.fresh, force: c.f.force, flat: c.f.only})
}

// send sends an entry whatever the target has. like says how to go on below it.
func (c *chunk) send(e fileop.Entry, file File, like frame) (n int, err error) {
	like.root, like.e, like.sent = c.f.root, e, true
	c.note(func() { c.sent = true })
	switch {
	case isDir(e.Attr.Mode):
		if like.after, err = c.r.putDirAt(c.at, &e); err == nil {
			c.note(func() { c.dirs = append(c.dirs, like) })
		}
	case isReg(e.Attr.Mode):
		n, err = c.sendFile(e, file, like)
	default:
		err = c.r.putNode(c.at, e, func() (fileop.Entry, error) { return c.d.Entry(e.Name) })
	}
	return n, err
}

func (c *chunk) sendFile(e fileop.Entry, file File, like frame) (n int, err error) {
	file, done, err := c.file(e, file)
	if err != nil {
		return 0, err
	}
	defer done()
	limit := smallFile
	if c.f.moved {
		limit = movedFile
	}
	open, n, err := c.r.putFile(c.at, e, file, limit)
	if open != 0 && err == nil {
		like.dir, like.after = c.f.dir, open
		c.note(func() { c.files = append(c.files, like) })
	}
	return n, err
}

func (c *chunk) note(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func isFatal(err error) bool {
	var f fatal
	return errors.As(err, &f)
}
