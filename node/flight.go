package node

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"understudy/fileop"
	"understudy/internal/failpoint"
	"understudy/internal/idlog"
)

const (
	// maxFlight bounds the files of one generation, some 60 bytes each; with more, all
	// files count.
	maxFlight = 1 << 18
	// flightWait is the longest a write waits for the note of its file. It is one sync of
	// a small file: 0.3 ms on the disk of the measurements, some 10 ms on a slow one.
	flightWait = time.Second
)

// flight is the list, on disk, of files changed in place: a write within a file's size
// can be on the disk when nothing else is that tells of it, not even the inode's change
// time. So the file is noted, durably, before the first such write; while it is written
// again and again that costs nothing more. All connections of the node share the list.
//
// It is kept in generations, one file each. A clean mark begins one, and needs it and
// those that were the present one shortly before: a write is noted first and made then.
type flight struct {
	dir    string
	log    *slog.Logger
	failed func() // notes cannot be written: no clean mark may stay. Called before the writes go on

	active atomic.Bool // somebody keeps a clean mark

	mu      sync.Mutex // guards what follows
	gen     uint64     // the present generation, or the last one of those found
	file    *idlog.File
	began   map[uint64]time.Time // of those of this process that are not dropped
	all     bool                 // of the present one: all files count
	ids     map[fileop.ObjID]*inPlace
	waiting []fileop.ObjID
	flushed chan struct{}     // closed when what waits now is on disk; nil: nothing waits
	users   map[string]uint64 // by connection that takes marks: the generation it began in
	keep    map[string]uint64 // by connection: the first generation its mark on disk needs
}

// inPlace is a file that was noted, or is about to be.
type inPlace struct {
	noted bool // on disk
	used  bool // written since the generation began
}

// openFlight finds what is there already; those files stay until no mark needs them.
func openFlight(dir string, log *slog.Logger, failed func()) (*flight, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("list of files changed in place: %w", err)
	}
	f := &flight{dir: dir, log: log, failed: failed, began: map[uint64]time.Time{}, users: map[string]uint64{}, keep: map[string]uint64{}}
	for _, no := range f.stored() {
		f.gen = max(f.gen, no)
	}
	return f, nil
}

func (f *flight) path(no uint64) string { return filepath.Join(f.dir, strconv.FormatUint(no, 10)) }

// stored are the numbers of the generations on disk.
func (f *flight) stored() (out []uint64) {
	names, _ := os.ReadDir(f.dir)
	for _, name := range names {
		if no, err := strconv.ParseUint(name.Name(), 10, 63); err == nil {
			out = append(out, no)
		}
	}
	return out
}

// Touch notes a file that is about to be changed in place. It returns when the note is
// on disk, or after flightWait at most.
func (f *flight) Touch(id fileop.ObjID) {
	if !f.active.Load() || failpoint.Planted(failpoint.PlantNoFlight) {
		return
	}
	done := f.note(id)
	if done == nil {
		return
	}
	timer := time.NewTimer(flightWait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		f.log.Warn("list of files changed in place is slow, a write went on")
	}
}

// note returns what to wait for, nil if the note is on disk.
func (f *flight) note(id fileop.ObjID) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.ids[id]
	switch {
	case f.file == nil:
		return nil
	case p != nil:
		if p.used = true; p.noted {
			return nil
		}
	case f.all:
		return f.flushed
	default:
		f.all = len(f.ids) >= maxFlight
		f.ids[id] = &inPlace{used: true}
		f.waiting = append(f.waiting, id)
	}
	if f.flushed == nil {
		f.flushed = make(chan struct{})
		go f.flush()
	}
	return f.flushed
}

// flush writes what waits until nothing does. One runs at a time.
func (f *flight) flush() {
	for {
		f.mu.Lock()
		file, all, ids, done := f.file, f.all, f.waiting, f.flushed
		if f.waiting = nil; len(ids) == 0 {
			f.flushed = nil
			f.mu.Unlock()
			close(done)
			return
		}
		f.flushed = make(chan struct{})
		f.mu.Unlock()
		err := file.Append(idlog.Batch{IDs: ids, All: all})
		if err == nil {
			err = file.Sync()
		}
		f.noted(file, ids, err)
		close(done)
	}
}

// noted takes the result of a write. If a new generation began meanwhile, that has
// the files from its start.
func (f *flight) noted(file *idlog.File, ids []fileop.ObjID, err error) {
	f.mu.Lock()
	if f.file != file {
		f.mu.Unlock()
		return
	}
	for _, id := range ids {
		if p := f.ids[id]; p != nil && err == nil {
			p.noted = true
		}
	}
	if err == nil {
		f.mu.Unlock()
		return
	}
	f.close()
	f.mu.Unlock()
	f.log.Error("list of files changed in place not written; a mirror after a power cut will compare everything", "err", err)
	f.failed()
}

// close ends the present generation; the next mark begins another. mu is held.
func (f *flight) close() {
	f.active.Store(false)
	clear(f.users)
	f.ids = nil
	if f.file != nil {
		_ = f.file.Close()
		f.file = nil
	}
}

// mark begins a generation for a clean mark about to be taken, and returns the first one
// the mark needs. 0: changes are watched only from now on, the next mark may be taken.
func (f *flight) mark(key string) (first uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	from, watched := f.users[key]
	if f.file == nil || !watched || time.Since(f.began[f.gen]) > cleanSlack/2 {
		if err := f.begin(); err != nil {
			return 0, err
		}
	}
	if !watched {
		f.users[key] = f.gen
		return 0, nil
	}
	first = f.gen
	for no := range f.began {
		if next, ok := f.began[no+1]; ok && no < first && time.Since(next) < cleanSlack {
			first = no
		}
	}
	return max(first, from), nil
}

// begin starts a generation. It holds from the start what is written again and again,
// and what is about to be noted. mu is held.
func (f *flight) begin() error {
	ids := map[fileop.ObjID]*inPlace{}
	var b idlog.Batch
	for id, p := range f.ids {
		if p.used {
			ids[id] = &inPlace{noted: true}
			b.IDs = append(b.IDs, id)
		}
	}
	file, err := idlog.Create(f.path(f.gen+1), idlog.Head{f.gen + 1}, b)
	if err != nil {
		return err
	}
	if f.file != nil {
		_ = f.file.Close()
	}
	f.gen++
	f.file, f.ids, f.all, f.began[f.gen] = file, ids, false, time.Now()
	f.active.Store(true)
	return nil
}

// need says which generations the mark on disk of a connection needs: first and later
// ones; 0: there is no mark.
func (f *flight) need(key string, first uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keep[key] = first; first == 0 {
		delete(f.keep, key)
	}
	low := f.gen
	for _, first := range f.keep {
		low = min(low, first)
	}
	for _, first := range f.users {
		low = min(low, first)
	}
	for no, at := range f.began {
		if no < f.gen && time.Since(at) < 2*cleanSlack {
			low = min(low, no)
		}
	}
	for _, no := range f.stored() {
		if no < low {
			_ = os.Remove(f.path(no)) // one that stays makes a mirror larger, no more
			delete(f.began, no)
		}
	}
}

// leave says that a connection takes no marks for the time being. What its mark on disk
// needs stays.
func (f *flight) leave(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if delete(f.users, key); len(f.users) == 0 {
		f.close()
	}
}

// since reads the files noted in generation first and later. ok is false if that is not
// known.
func (f *flight) since(first uint64) (ids map[fileop.ObjID]struct{}, ok bool) {
	ids = map[fileop.ObjID]struct{}{}
	last := uint64(0)
	for _, no := range f.stored() {
		last = max(last, no)
	}
	if first == 0 || last < first {
		return nil, false
	}
	for no := first; no <= last; no++ {
		head, batches, err := idlog.Read(f.path(no))
		if err != nil || head[0] != no {
			return nil, false
		}
		for _, b := range batches {
			if b.All {
				return nil, false
			}
			for _, id := range b.IDs {
				ids[id] = struct{}{}
			}
		}
	}
	return ids, true
}
