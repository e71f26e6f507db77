package stacked

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// What returned before another operation began has the smaller position: writers hand
// a counter on, each writes it to a file of its own, and the log shows it rising.
func TestHappensBefore(t *testing.T) {
	_, r, dir, _ := tapped(t)
	const writers, rounds = 4, 300
	var mu sync.Mutex
	var count uint64
	var group sync.WaitGroup
	for w := range writers {
		f, err := os.Create(fmt.Sprintf("%s/f%d", dir, w))
		must(t, err)
		defer f.Close()
		group.Go(func() {
			for i := range rounds {
				mu.Lock()
				count++
				_, err := f.WriteAt(binary.BigEndian.AppendUint64(nil, count), int64(i)*8)
				if i%10 == 0 {
					err = errors.Join(err, os.Mkdir(fmt.Sprintf("%s/d%d", dir, count), 0o755))
				}
				mu.Unlock()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	var last, dirs uint64
	for _, op := range r.take(t) {
		switch op.Kind {
		case fileop.Write:
			n := binary.BigEndian.Uint64(op.Data)
			if n != last+1 {
				t.Fatalf("write %d follows %d", n, last)
			}
			last = n
		case fileop.Mkdir:
			if want := fmt.Sprintf("d%d", last); op.Name != want {
				t.Fatalf("mkdir %s after write %d", op.Name, last)
			}
			dirs++
		}
	}
	if last != writers*rounds || dirs != writers*rounds/10 {
		t.Errorf("%d writes, %d directories in the log", last, dirs)
	}
}

// replay applies the writes and truncations of one object.
func replay(ops []fileop.Op, obj fileop.ObjID) []byte {
	var b []byte
	grow := func(n int64) {
		if int64(len(b)) < n {
			b = append(b, make([]byte, n-int64(len(b)))...)
		}
	}
	for _, op := range ops {
		if op.Obj != obj {
			continue
		}
		switch op.Kind {
		case fileop.Write:
			grow(op.Off + int64(len(op.Data)))
			copy(b[op.Off:], op.Data)
		case fileop.Truncate:
			grow(op.Len)
			b = b[:op.Len]
		}
	}
	return b
}

// Appenders on descriptors of their own lose nothing, and the log has every record.
func TestConcurrentAppend(t *testing.T) {
	_, r, dir, lower := tapped(t)
	const writers, rounds, size = 3, 400, 100
	must(t, os.WriteFile(dir+"/log", nil, 0o644))
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			f, err := os.OpenFile(dir+"/log", os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			for range rounds {
				if _, err := f.Write(bytes.Repeat([]byte{byte('a' + w)}, size)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	content, err := os.ReadFile(lower + "/log")
	must(t, err)
	seen := map[byte]int{}
	for i := 0; i < len(content); i += size {
		rec := content[i:min(i+size, len(content))]
		if !bytes.Equal(rec, bytes.Repeat(rec[:1], size)) {
			t.Fatalf("torn record at %d", i)
		}
		seen[rec[0]]++
	}
	if len(seen) != writers || len(content) != writers*rounds*size {
		t.Errorf("records %v, %d bytes", seen, len(content))
	}
	if got := replay(r.take(t), identity(t, lower+"/log")); !bytes.Equal(got, content) {
		t.Error("the log replays to something else")
	}
}

// Writers and truncators of one file: the log of the file is in effect order.
func TestLogOrderIsEffectOrder(t *testing.T) {
	_, r, dir, lower := tapped(t)
	must(t, os.WriteFile(dir+"/f", nil, 0o644))
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			f, err := os.OpenFile(dir+"/f", os.O_RDWR, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			for i := range 200 {
				data := bytes.Repeat([]byte{byte(w*64 + i%64)}, 700)
				if _, err := f.WriteAt(data, int64((i*w*331)%5000)); err != nil {
					t.Error(err)
				}
				if i%20 == w {
					if err := f.Truncate(int64(i * 13 % 4000)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
	content, err := os.ReadFile(lower + "/f")
	must(t, err)
	if got := replay(r.take(t), identity(t, lower+"/f")); !bytes.Equal(got, content) {
		t.Error("the log replays to something else")
	}
}

// counter is a sink that knows whether it may be called.
type counter struct {
	off    atomic.Bool
	puts   atomic.Int64
	late   atomic.Int64
	paced  atomic.Int64
	pacing time.Duration
	slow   time.Duration
}

func (c *counter) Put(*fileop.Op) {
	c.puts.Add(1)
	time.Sleep(c.slow)
	if c.off.Load() { // begun or still running after detach
		c.late.Add(1)
	}
}

func (c *counter) Pace() time.Duration { c.paced.Add(1); return c.pacing }

// Sinks come and go under load; none is called after its detach returned, and one that
// stays gets everything.
func TestAttachDetachLive(t *testing.T) {
	c, stays, dir, lower := tapped(t)
	stop := make(chan struct{})
	var group sync.WaitGroup
	for w := range 3 {
		f, err := os.Create(fmt.Sprintf("%s/f%d", dir, w))
		must(t, err)
		defer f.Close()
		group.Go(func() {
			for i := int64(0); ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := f.WriteAt([]byte{byte(i)}, i%4096); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 100 {
		s := &counter{slow: 100 * time.Microsecond}
		detach := c.Attach(s)
		must(t, os.WriteFile(dir+"/mark", []byte("x"), 0o644))
		detach()
		s.off.Store(true)
		if s.puts.Load() == 0 {
			t.Error("attached, and nothing came")
		}
		detach() // twice does no harm
		defer func() {
			if n := s.late.Load(); n > 0 {
				t.Errorf("%d operations after detach", n)
			}
		}()
	}
	close(stop)
	group.Wait()
	ops := stays.take(t)
	for w := range 3 {
		p := fmt.Sprintf("%s/f%d", lower, w)
		content, err := os.ReadFile(p)
		must(t, err)
		if !bytes.Equal(replay(ops, identity(t, p)), content) {
			t.Errorf("f%d: the log replays to something else", w)
		}
	}
	if st := c.Stats(); st.Ops == 0 || st.WriteBytes == 0 || st.Requests == 0 {
		t.Errorf("stats %+v", st)
	}
}

// reader is a sink that reads what a link brought in, under the lock of the file, as
// the mirror does at the border of a set.
type reader struct {
	t     *testing.T
	c     *Capture
	reads atomic.Int64
}

func (r *reader) Pace() time.Duration { return 0 }

func (r *reader) Put(op *fileop.Op) {
	if op.Kind != fileop.Link {
		return
	}
	e, err := r.c.Tree().Lookup(op.Path)
	if err != nil {
		r.t.Error(err)
		return
	}
	f, err := r.c.Tree().File(e)
	if err != nil {
		r.t.Error(err)
		return
	}
	defer f.Close()
	if err := f.WithLock(func() error { _, err := f.Self(); return err }); err != nil {
		r.t.Error(err)
	}
	r.reads.Add(1)
}

// A sink may lock the file a link names while others write to the file and sinks come
// and go; nobody waits for ever.
func TestSinkLocksFile(t *testing.T) {
	c, dir, _ := start(t, Config{})
	r := &reader{t: t, c: c}
	defer c.Attach(r)()
	f, err := os.Create(dir + "/f")
	must(t, err)
	defer f.Close()
	var group sync.WaitGroup
	group.Go(func() {
		for i := range 300 {
			name := fmt.Sprintf("%s/l%d", dir, i)
			if err := errors.Join(os.Link(dir+"/f", name), os.Rename(name, name+"r")); err != nil {
				t.Error(err)
			}
		}
	})
	for range 2 {
		group.Go(func() {
			for i := range 600 {
				if _, err := f.WriteAt([]byte("x"), int64(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Go(func() {
		for range 600 {
			c.Attach(&counter{})()
		}
	})
	group.Wait()
	if n := r.reads.Load(); n != 300 {
		t.Errorf("%d links read", n)
	}
}

func TestPace(t *testing.T) {
	c, dir, _ := start(t, Config{})
	s := &counter{pacing: 20 * time.Millisecond}
	defer c.Attach(s)()
	f, err := os.Create(dir + "/f")
	must(t, err)
	defer f.Close()
	begin := time.Now()
	for range 5 {
		_, err = f.WriteString("x")
		must(t, err)
	}
	if took := time.Since(begin); took < 5*s.pacing || s.paced.Load() != 5 {
		t.Errorf("5 writes took %v, asked %d times", took, s.paced.Load())
	}
}

// Renames, links, unlinks and directory removals against each other end, which they
// would not if locks were taken in different orders; and every operation names the
// object that the name had.
func TestNamesUnderLoad(t *testing.T) {
	_, r, dir, _ := tapped(t)
	for i := range 4 {
		must(t, os.MkdirAll(fmt.Sprintf("%s/%d", dir, i), 0o755))
	}
	var group sync.WaitGroup
	for w := range 6 {
		group.Go(func() {
			for i := range 150 {
				a := fmt.Sprintf("%s/%d/n%d", dir, (w+i)%4, i%5)
				b := fmt.Sprintf("%s/%d/n%d", dir, (w*3+i*7)%4, (i+w)%5)
				switch (i + w) % 7 {
				case 0, 1:
					os.WriteFile(a, []byte("x"), 0o644)
				case 2:
					os.Rename(a, b)
				case 3:
					os.Link(a, b)
				case 4:
					os.Mkdir(a, 0o755)
				case 5:
					os.Remove(a)
				case 6:
					unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
				}
			}
		})
	}
	group.Wait()
	checkNames(t, r.take(t))
}

// checkNames replays names only: every operation must fit what came before.
func checkNames(t *testing.T, ops []fileop.Op) {
	t.Helper()
	type place struct {
		dir  fileop.ObjID
		name string
	}
	names := map[place]fileop.ObjID{}
	links := map[fileop.ObjID]int{}
	bad := func(op fileop.Op, why string) { t.Errorf("%s: %s", brief(op), why) }
	for _, op := range ops {
		at, to := place{op.Parent, op.Name}, place{op.Parent2, op.Name2}
		switch op.Kind {
		case fileop.Create, fileop.Mkdir, fileop.Link, fileop.Mknod, fileop.Symlink:
			if !names[at].IsZero() {
				bad(op, "name is taken")
			}
			names[at] = op.Obj
			links[op.Obj]++
		case fileop.Unlink, fileop.Rmdir:
			if names[at] != op.Obj {
				bad(op, "name is of another object")
			}
			delete(names, at)
			if links[op.Obj]--; op.Last != (links[op.Obj] == 0) {
				bad(op, fmt.Sprintf("%d links left", links[op.Obj]))
			}
		case fileop.Rename:
			if names[at] != op.Obj || names[to] != op.Obj2 {
				bad(op, "names are of other objects")
			}
			delete(names, at)
			names[to] = op.Obj
			if op.Flags != 0 {
				names[at] = op.Obj2
			} else if !op.Obj2.IsZero() {
				if links[op.Obj2]--; op.Last != (links[op.Obj2] == 0) {
					bad(op, fmt.Sprintf("%d links left", links[op.Obj2]))
				}
			}
		}
	}
}

// The mirror's view excludes captured operations by the same locks.
func TestTreeLocks(t *testing.T) {
	c, dir, _ := start(t, Config{})
	must(t, os.WriteFile(dir+"/f", []byte("before"), 0o644))
	root, err := c.Tree().Root()
	must(t, err)
	d, err := c.Tree().Dir(root)
	must(t, err)
	defer d.Close()
	e, err := d.Entry("f")
	must(t, err)
	f, err := c.Tree().File(e)
	must(t, err)
	defer f.Close()
	shifts := f.Shifts()
	held, err := os.OpenFile(dir+"/f", os.O_WRONLY, 0)
	must(t, err)
	defer held.Close()
	wrote := make(chan error, 3)
	must(t, d.WithLock(func() error {
		return f.WithLock(func() error {
			go func() { wrote <- os.WriteFile(dir+"/f", []byte("after!"), 0) }()
			go func() { wrote <- os.WriteFile(dir+"/g", nil, 0o644) }()
			go func() { _, err := held.WriteAt([]byte("AFTER!"), 0); wrote <- err }()
			time.Sleep(50 * time.Millisecond) // time in which a wrong program does something
			b := make([]byte, 6)
			_, err := f.ReadAt(b, 0)
			if string(b) != "before" {
				t.Errorf("read %q under the lock", b)
			}
			if _, err := d.Entry("g"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a name appeared under the lock: %v", err)
			}
			return err
		})
	}))
	for range 3 {
		must(t, <-wrote)
	}
	if f.Shifts() == shifts {
		t.Error("truncation does not show in shifts")
	}
	if p, err := d.Path(); p != "" || err != nil {
		t.Errorf("root at %q, %v", p, err)
	}
}

// Paths follow renames of directories above, and hard links.
func TestPathHints(t *testing.T) {
	_, r, dir, _ := tapped(t)
	must(t, os.MkdirAll(dir+"/a/b", 0o755))
	f, err := os.Create(dir + "/a/b/f")
	must(t, err)
	defer f.Close()
	r.take(t)
	write := func(want string) {
		t.Helper()
		_, err := f.WriteAt([]byte("x"), 0)
		must(t, err)
		r.want(t, "write", "write "+want+" 0+1")
	}
	write("a/b/f")
	must(t, os.Rename(dir+"/a", dir+"/c"))
	r.take(t)
	write("c/b/f")
	must(t, os.Link(dir+"/c/b/f", dir+"/g"))
	must(t, os.Remove(dir+"/c/b/f"))
	r.take(t)
	write("g")
	must(t, os.Remove(dir+"/g"))
	r.take(t)
	write("g")
}
