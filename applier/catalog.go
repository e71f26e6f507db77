package applier

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"understudy/fileop"
	"understudy/internal/idlog"
)

// Buckets: objects by key; children by directory and name; and the position.
var (
	bucketObjects = []byte("objects")
	bucketNames   = []byte("names")
	bucketMeta    = []byte("meta")
)

// cacheObjects bounds the clean objects kept in memory (twice: two generations).
const cacheObjects = 16 << 10

type dirKey = key

// layer holds changes not yet in the database. A nil object and a zero child are
// removals.
type layer struct {
	objects map[key]*object
	names   map[dirKey]map[string]fileop.ObjID
	count   int
}

func newLayer() *layer {
	return &layer{objects: map[key]*object{}, names: map[dirKey]map[string]fileop.ObjID{}}
}

// catalog is the map from source identity to target object, with the changes since the
// last checkpoint in memory in front of a bbolt database. Only the deciding goroutine
// uses it; commit alone runs beside it, on a frozen layer's encoded copy.
type catalog struct {
	db     *bbolt.DB
	dirty  *layer // changes since the last freeze
	frozen *layer // being committed, or nil
	young  map[key]*object
	old    map[key]*object
	err    error        // first error of the database; the run ends with it
	sum    contents     // of the database
	lastTx atomic.Int64 // number of the last transaction
	// verified is when the file was compared as a whole; the committing goroutine's own.
	verified time.Time
	count    uint64               // commits so far
	noted    func(commits uint64) // called after each; nil: nobody wants to know
	puts     uint64
}

// openCatalog opens the database or makes it. errCatalog: its file is damaged. noSync: what is
// written is left to the kernel.
func openCatalog(path string, noSync bool) (*catalog, error) {
	if err := verifyCatalog(path); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second, NoFreelistSync: true, NoSync: noSync,
		FreelistType: bbolt.FreelistMapType, InitialMmapSize: 256 << 20})
	if err != nil {
		return nil, fmt.Errorf("open catalog %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketObjects, bucketNames, bucketMeta} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("open catalog %s: %w", path, err)
	}
	c := &catalog{db: db, dirty: newLayer(), young: map[key]*object{}}
	m, _, err := c.loadMeta()
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("open catalog %s: %w", path, err)
	}
	c.sum, c.count, c.verified = m.Contents, m.Commits, time.Now()
	return c, nil
}

func (c *catalog) fail(err error) {
	if err != nil && c.err == nil {
		c.err = fmt.Errorf("read catalog: %w", err)
	}
}

// get returns the object or nil.
func (c *catalog) get(k key) *object {
	if o, ok := c.dirty.objects[k]; ok {
		return o
	}
	if c.frozen != nil {
		if o, ok := c.frozen.objects[k]; ok {
			return o
		}
	}
	if o, ok := c.young[k]; ok {
		return o
	}
	if o, ok := c.old[k]; ok {
		c.remember(o)
		return o
	}
	var o *object
	c.fail(c.view(func(tx *bbolt.Tx) (err error) {
		at := appendKey(nil, k.tree, k.id)
		v, err := opened(at, tx.Bucket(bucketObjects).Get(at))
		if v != nil {
			o, err = decodeObject(k, v)
		}
		return err
	}))
	if o != nil {
		c.remember(o)
	}
	return o
}

// warm reads the objects of a directory at once, so that none takes a transaction of its own.
func (c *catalog) warm(tree uint32, ids map[string]fileop.ObjID) {
	if len(ids) > cacheObjects {
		return
	}
	c.fail(c.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketObjects)
		var at []byte
		for _, id := range ids {
			k := key{tree, id}
			if c.held(k) {
				continue
			}
			at = appendKey(at[:0], tree, id)
			v, err := opened(at, b.Get(at))
			if err != nil {
				return err
			}
			if v == nil {
				continue
			}
			o, err := decodeObject(k, v)
			if err != nil {
				return err
			}
			c.remember(o)
		}
		return nil
	}))
}

// held reports whether the database need not, or must not, be asked for an object: it has been,
// or has an older one than the layers before it.
func (c *catalog) held(k key) bool {
	_, dirty := c.dirty.objects[k]
	frozen := false
	if c.frozen != nil {
		_, frozen = c.frozen.objects[k]
	}
	return dirty || frozen || c.young[k] != nil || c.old[k] != nil
}

func (c *catalog) remember(o *object) {
	if len(c.young) >= cacheObjects {
		c.old, c.young = c.young, make(map[key]*object, cacheObjects)
	}
	c.young[o.key] = o
}

// put notes that o is new or changed.
func (c *catalog) put(o *object) {
	if c.dirty.objects[o.key] == nil {
		c.dirty.count++
		c.remember(o)
	}
	c.dirty.objects[o.key] = o
	c.puts++
}

// remove forgets the object and every place it still has.
func (c *catalog) remove(o *object) {
	for _, p := range o.names {
		c.setChild(o.tree, p, fileop.ObjID{})
	}
	o.names = nil
	c.dirty.objects[o.key] = nil
	c.dirty.count++
	delete(c.young, o.key)
	delete(c.old, o.key)
}

func (c *catalog) setChild(tree uint32, p place, id fileop.ObjID) {
	d := dirKey{tree, p.parent}
	m := c.dirty.names[d]
	if m == nil {
		m = map[string]fileop.ObjID{}
		c.dirty.names[d] = m
	}
	m[p.name] = id
	c.dirty.count++
}

// bind gives o the place p.
func (c *catalog) bind(o *object, p place) {
	if !o.has(p) {
		o.names = append(o.names, p)
	}
	c.setChild(o.tree, p, o.id)
	c.put(o)
}

// unbind takes the place p from o, which stays known even without a place.
func (c *catalog) unbind(o *object, p place) {
	o.names = slices.DeleteFunc(o.names, func(n place) bool { return n == p })
	c.setChild(o.tree, p, fileop.ObjID{})
	c.put(o)
}

// child is the object at p, zero if none is known.
func (c *catalog) child(tree uint32, p place) fileop.ObjID {
	d := dirKey{tree, p.parent}
	if id, ok := c.dirty.names[d][p.name]; ok {
		return id
	}
	if c.frozen != nil {
		if id, ok := c.frozen.names[d][p.name]; ok {
			return id
		}
	}
	var id fileop.ObjID
	c.fail(c.view(func(tx *bbolt.Tx) error {
		at := append(appendKey(make([]byte, 0, 64), tree, p.parent), p.name...)
		v, err := opened(at, tx.Bucket(bucketNames).Get(at))
		if len(v) == 16 {
			id = parseID(v)
		}
		return err
	}))
	return id
}

// children are the known names of a directory.
func (c *catalog) children(tree uint32, dir fileop.ObjID) map[string]fileop.ObjID {
	out := map[string]fileop.ObjID{}
	prefix := appendKey(nil, tree, dir)
	c.fail(c.view(func(tx *bbolt.Tx) error {
		cur := tx.Bucket(bucketNames).Cursor()
		for k, v := cur.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = cur.Next() {
			v, err := opened(k, v)
			if err != nil {
				return err
			}
			if len(v) == 16 {
				out[string(k[keySize:])] = parseID(v)
			}
		}
		return nil
	}))
	for _, l := range []*layer{c.frozen, c.dirty} {
		if l != nil {
			maps.Copy(out, l.names[dirKey{tree, dir}])
		}
	}
	maps.DeleteFunc(out, func(_ string, id fileop.ObjID) bool { return id.IsZero() })
	return out
}

// meta is what stands beside the catalog, written in the same transaction.
type meta struct {
	Position
	BootID string
	// Contents and Commits are of the catalog beside it, and how often that was written.
	Contents contents
	Commits  uint64
	Clean    bool  // the last stop was clean: names on disk are as in the catalog
	At       int64 // when names on disk last were as in the catalog, nanoseconds since 1970
	// Intents is the first generation of intents not made superfluous by this checkpoint.
	Intents uint64
	Ghosts  ghostWindow
	Ahead   fileop.Seq // as Applier.ghostsUntil
}

type change struct{ k, v []byte } // nil v: remove

// batch is one checkpoint's worth of changes, encoded, so that the originals may change.
type batch struct {
	objects, names []change
	meta           meta
	touched        *idlog.Batch // goes to its own file first; nil: nothing new
}

// freeze moves the changes into a batch. The layer before must be committed (thaw).
func (c *catalog) freeze(m meta) *batch {
	b := &batch{meta: m}
	for k, o := range c.dirty.objects {
		ch := change{k: appendKey(make([]byte, 0, keySize), k.tree, k.id)}
		if o != nil {
			ch.v = closed(ch.k, o.encode())
		}
		b.objects = append(b.objects, ch)
	}
	for d, names := range c.dirty.names {
		for name, id := range names {
			ch := change{k: append(appendKey(make([]byte, 0, keySize+len(name)), d.tree, d.id), name...)}
			if !id.IsZero() {
				ch.v = closed(ch.k, appendID(nil, id))
			}
			b.names = append(b.names, ch)
		}
	}
	c.frozen, c.dirty = c.dirty, newLayer()
	return b
}

// thaw ends what freeze began, after the batch is committed.
func (c *catalog) thaw() { c.frozen = nil }

// commit writes a batch in one durable transaction. It may run beside everything else.
func (c *catalog) commit(b *batch) error {
	byKey := func(x, y change) int { return bytes.Compare(x.k, y.k) }
	slices.SortFunc(b.objects, byKey)
	slices.SortFunc(b.names, byKey)
	sum := c.sum
	err := c.update(func(tx *bbolt.Tx) error {
		if err := putAll(tx.Bucket(bucketObjects), b.objects, &sum); err != nil {
			return err
		}
		if err := putAll(tx.Bucket(bucketNames), b.names, &sum); err != nil {
			return err
		}
		b.meta.Contents, b.meta.Commits = sum, c.count+1
		return putMeta(tx, b.meta)
	})
	if err == nil {
		c.sum = sum
		c.committed()
	}
	return err
}

func putAll(b *bbolt.Bucket, changes []change, sum *contents) (err error) {
	for _, ch := range changes {
		sum.change(ch.k, b.Get(ch.k), ch.v)
		if ch.v == nil {
			err = b.Delete(ch.k)
		} else {
			err = b.Put(ch.k, ch.v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func putMeta(tx *bbolt.Tx, m meta) error {
	v, err := encodeMeta(m)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketMeta).Put([]byte("meta"), v)
}

// loadMeta reads the record of the last checkpoint; ok is false in a new catalog.
func (c *catalog) loadMeta() (m meta, ok bool, err error) {
	err = c.view(func(tx *bbolt.Tx) (err error) {
		v := tx.Bucket(bucketMeta).Get([]byte("meta"))
		if ok = v != nil; ok {
			m, err = decodeMeta(v)
		}
		return err
	})
	return m, ok && err == nil, err
}

// storeMeta replaces that record durably.
func (c *catalog) storeMeta(m meta) error {
	m.Contents, m.Commits = c.sum, c.count+1
	err := c.update(func(tx *bbolt.Tx) error { return putMeta(tx, m) })
	if err == nil {
		c.committed()
	}
	return err
}

func (c *catalog) committed() {
	c.count++
	if c.noted != nil {
		c.noted(c.count)
	}
}

// unfreeze takes the frozen layer back after a commit that did not happen.
func (c *catalog) unfreeze() {
	if c.frozen == nil {
		return
	}
	for k, o := range c.frozen.objects {
		if _, newer := c.dirty.objects[k]; !newer {
			c.dirty.objects[k] = o
		}
	}
	for d, names := range c.frozen.names {
		m := c.dirty.names[d]
		if m == nil {
			c.dirty.names[d] = names
			continue
		}
		for name, id := range names {
			if _, newer := m[name]; !newer {
				m[name] = id
			}
		}
	}
	c.dirty.count += c.frozen.count
	c.frozen = nil
}
