package applier

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"

	"understudy/internal/digest"
)

// The database trusts its file: a damaged page makes it panic, loop, or answer wrongly.
// So the file is read as a whole before it is opened: each page reachable from the
// newest valid meta page is where it says it is, is reached once, and holds keys in the
// order by which they are looked for; and what the catalog's buckets hold is, by number
// and digest, what the last commit left there.
//
// The layout is bbolt's, version 2; TestVerifyKnowsTheDatabase fails if it changes.

// Sizes and marks of bbolt's pages.
const (
	pageHeader   = 16
	pageElement  = 16
	pageBranch   = 0x01
	pageLeaf     = 0x02
	bucketEntry  = 0x01
	metaMagic    = 0xED0CDAED
	metaVersion  = 2
	metaSize     = 64
	maxPageBytes = 1 << 30
	maxPageDepth = 64
)

// contents is what the entries of the catalog add up to.
type contents struct {
	Entries uint64
	Digest  uint64 // exclusive or of the entries' digests
}

// change accounts for an entry that becomes new; nil is none.
func (c *contents) change(k, old, new []byte) {
	if old != nil {
		c.Entries--
		c.Digest ^= digest.Entry(k, old)
	}
	if new != nil {
		c.Entries++
		c.Digest ^= digest.Entry(k, new)
	}
}

// verifier walks the pages of a database file.
type verifier struct {
	f     io.ReaderAt
	page  int64
	pages uint64
	seen  map[uint64]bool
	sum   contents
	meta  []byte
}

// verifyCatalog returns errCatalog for a database file that is not what the last commit
// left. One that is missing or empty is no error.
func verifyCatalog(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("verify catalog: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return err
	}
	v := &verifier{f: f, page: int64(os.Getpagesize()), seen: map[uint64]bool{}}
	v.pages = uint64(st.Size() / v.page)
	root, err := v.root()
	if err == nil {
		err = v.bucket(root, nil, 0)
	}
	if err == nil {
		err = v.compare()
	}
	if err != nil {
		return fmt.Errorf("verify %s: %w: %w", path, errCatalog, err)
	}
	return nil
}

// root is the root page of the newest valid meta page.
func (v *verifier) root() (root uint64, err error) {
	newest, found, size := uint64(0), false, v.pages
	for i := range int64(2) {
		b := make([]byte, pageHeader+metaSize)
		if _, err := v.f.ReadAt(b, i*v.page); err != nil {
			return 0, fmt.Errorf("read meta page %d: %w", i, err)
		}
		m := b[pageHeader:]
		h := fnv.New64a()
		h.Write(m[:metaSize-8])
		u := binary.NativeEndian
		if u.Uint32(m) != metaMagic || u.Uint32(m[4:]) != metaVersion || u.Uint64(m[metaSize-8:]) != h.Sum64() {
			continue
		}
		if int64(u.Uint32(m[8:])) != v.page {
			return 0, fmt.Errorf("pages of %d bytes", u.Uint32(m[8:]))
		}
		if tx := u.Uint64(m[48:]); !found || tx > newest {
			newest, found, root = tx, true, u.Uint64(m[16:])
			v.pages = min(size, u.Uint64(m[40:]))
		}
	}
	if !found {
		return 0, errors.New("no valid meta page")
	}
	return root, nil
}

// read returns a page with its overflow.
func (v *verifier) read(id uint64) ([]byte, error) {
	if id < 2 || id >= v.pages {
		return nil, fmt.Errorf("page %d of %d", id, v.pages)
	}
	head := make([]byte, pageHeader)
	if _, err := v.f.ReadAt(head, int64(id)*v.page); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	n := uint64(binary.NativeEndian.Uint32(head[12:])) + 1
	if got := binary.NativeEndian.Uint64(head); got != id || n > v.pages-id || int64(n)*v.page > maxPageBytes {
		return nil, fmt.Errorf("page %d says it is %d, %d pages long", id, got, n)
	}
	for i := id; i < id+n; i++ {
		if v.seen[i] {
			return nil, fmt.Errorf("page %d is used twice", i)
		}
		v.seen[i] = true
	}
	b := make([]byte, int64(n)*v.page)
	if _, err := v.f.ReadAt(b, int64(id)*v.page); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	return b, nil
}

// bucket walks one bucket, name nil for the one that holds the others.
func (v *verifier) bucket(root uint64, name []byte, depth int) error {
	b, err := v.read(root)
	if err != nil {
		return err
	}
	return v.tree(b, name, nil, nil, depth)
}

// tree walks a page and what is below it. Its keys are at least lo and below hi.
func (v *verifier) tree(b, name, lo, hi []byte, depth int) error {
	if depth > maxPageDepth {
		return errors.New("pages nested too deep")
	}
	u := binary.NativeEndian
	flags, count := u.Uint16(b[8:]), int(u.Uint16(b[10:]))
	if flags != pageBranch && flags != pageLeaf || pageHeader+count*pageElement > len(b) {
		return fmt.Errorf("page %d: kind %d with %d elements", u.Uint64(b), flags, count)
	}
	var last []byte
	for i := range count {
		at := pageHeader + i*pageElement
		if flags == pageLeaf {
			k, val, err := cut(b, at, u.Uint32(b[at+4:]), u.Uint32(b[at+8:]), u.Uint32(b[at+12:]))
			if err != nil {
				return err
			}
			if err := inOrder(last, k, lo, hi); err != nil {
				return err
			}
			last = k
			if err := v.entry(name, u.Uint32(b[at:]), k, val, depth); err != nil {
				return err
			}
			continue
		}
		k, _, err := cut(b, at, u.Uint32(b[at:]), u.Uint32(b[at+4:]), 0)
		if err != nil {
			return err
		}
		if i > 0 || lo != nil { // what is smaller than all keys goes to the first page too
			if err := inOrder(last, k, nil, hi); err != nil {
				return err
			}
		}
		last = k
		below, end := k, hi
		if i == 0 {
			below = lo
		}
		if i+1 < count {
			next := at + pageElement
			if end, _, err = cut(b, next, u.Uint32(b[next:]), u.Uint32(b[next+4:]), 0); err != nil {
				return err
			}
		}
		child, err := v.read(u.Uint64(b[at+8:]))
		if err == nil {
			err = v.tree(child, name, below, end, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cut takes key and value of the element at b[at:], pos bytes behind it.
func cut(b []byte, at int, pos, klen, vlen uint32) (k, v []byte, err error) {
	from := uint64(at) + uint64(pos)
	mid := from + uint64(klen)
	end := mid + uint64(vlen)
	if end > uint64(len(b)) {
		return nil, nil, fmt.Errorf("element reaches to byte %d of a page of %d", end, len(b))
	}
	return b[from:mid], b[mid:end], nil
}

func inOrder(last, k, lo, hi []byte) error {
	if last != nil && bytes.Compare(last, k) >= 0 || lo != nil && bytes.Compare(k, lo) < 0 || hi != nil && bytes.Compare(k, hi) >= 0 {
		return errors.New("keys out of order")
	}
	return nil
}

// entry takes one entry of a leaf page: a bucket, or an entry of one.
func (v *verifier) entry(name []byte, flags uint32, k, val []byte, depth int) error {
	switch {
	case flags == bucketEntry && name == nil && len(val) >= 16:
		if root := binary.NativeEndian.Uint64(val); root != 0 {
			return v.bucket(root, k, depth+1)
		}
		if len(val) < 16+pageHeader {
			return errors.New("bucket without a page")
		}
		return v.tree(val[16:], k, nil, nil, depth+1)
	case flags != 0 || name == nil:
		return fmt.Errorf("entry of kind %d", flags)
	case bytes.Equal(name, bucketMeta):
		v.meta = bytes.Clone(val)
	default:
		v.sum.change(k, nil, val)
	}
	return nil
}

// compare holds what was found against what the last commit noted.
func (v *verifier) compare() error {
	if v.meta == nil {
		if v.sum.Entries > 0 {
			return errors.New("no position is stored")
		}
		return nil // made, and never used
	}
	m, err := decodeMeta(v.meta)
	if err == nil && m.Contents != v.sum {
		err = fmt.Errorf("%d entries, %d were stored, or their bytes differ", v.sum.Entries, m.Contents.Entries)
	}
	return err
}

// encodeMeta puts a checksum behind the record that stands beside the catalog.
func encodeMeta(m meta) ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint64(b, digest.Entry(nil, b)), nil
}

func decodeMeta(b []byte) (m meta, err error) {
	n := len(b) - 8
	if n < 0 || binary.BigEndian.Uint64(b[n:]) != digest.Entry(nil, b[:n]) {
		return m, fmt.Errorf("%w: position: wrong checksum", errCatalog)
	}
	if err := json.Unmarshal(b[:n], &m); err != nil {
		return m, fmt.Errorf("%w: position: %w", errCatalog, err)
	}
	return m, nil
}
