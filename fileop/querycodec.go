package fileop

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// The queries travel in protobuf wire format. Field numbers are never reused.

// Append encodes q.
func (q *ListQuery) Append(b []byte) []byte {
	b = appendUint(b, 1, uint64(q.Tree))
	b = appendObj(b, 2, q.Obj)
	b = appendUint(b, 3, uint64(q.After))
	b = appendSum(b, 4, q.Sum)
	b = appendString(b, 5, q.From)
	return appendUint(b, 6, bit(q.Content))
}

// Parse decodes q from b.
func (q *ListQuery) Parse(b []byte) error {
	*q = ListQuery{}
	return eachField(b, func(n protowire.Number, v uint64, p []byte) (err error) {
		switch n {
		case 1:
			err = u32(&q.Tree, v)
		case 2:
			q.Obj, err = parseObj(p)
		case 3:
			q.After = Seq(v)
		case 4:
			q.Sum, err = parseSum(p)
		case 5:
			q.From, err = parseString(p, MaxName)
		case 6:
			q.Content = v != 0
		}
		return err
	})
}

// Append encodes r.
func (r *ListReply) Append(b []byte) []byte {
	b = appendUint(b, 1, uint64(r.Applied))
	b = appendUint(b, 2, bit(r.Known))
	b = appendUint(b, 3, bit(r.Same))
	b = appendUint(b, 4, bit(r.More))
	for i := range r.Entries {
		b = protowire.AppendBytes(protowire.AppendTag(b, 5, protowire.BytesType), r.Entries[i].append(nil))
	}
	return b
}

// Parse decodes r from b.
func (r *ListReply) Parse(b []byte) error {
	*r = ListReply{}
	return eachField(b, func(n protowire.Number, v uint64, p []byte) error {
		switch n {
		case 1:
			r.Applied = Seq(v)
		case 2:
			r.Known = v != 0
		case 3:
			r.Same = v != 0
		case 4:
			r.More = v != 0
		case 5:
			if len(r.Entries) == ListMax {
				return fmt.Errorf("%w: over %d entries", ErrTooLarge, ListMax)
			}
			var e TargetEntry
			if err := e.parse(p); err != nil {
				return err
			}
			r.Entries = append(r.Entries, e)
		}
		return nil
	})
}

func (e *TargetEntry) append(b []byte) []byte {
	b = appendString(b, 1, e.Name)
	b = appendObj(b, 2, e.Obj)
	b = appendAttr(b, &e.Attr)
	b = appendUint(b, 4, uint64(e.Size))
	b = appendUint(b, 5, uint64(e.Nlink))
	b = appendString(b, 6, e.Target)
	return appendSum(b, 7, e.Xattrs)
}

func (e *TargetEntry) parse(b []byte) error {
	if err := e.parseNameless(b); err != nil {
		return err
	}
	return CheckName(e.Name)
}

// parseNameless is parse for an entry that may have no name.
func (e *TargetEntry) parseNameless(b []byte) error {
	return eachField(b, func(n protowire.Number, v uint64, p []byte) (err error) {
		switch n {
		case 1:
			e.Name, err = parseString(p, MaxName)
		case 2:
			e.Obj, err = parseObj(p)
		case fAttr:
			var a *Attr
			if a, err = parseAttr(p); err == nil {
				e.Attr = *a
			}
		case 4:
			err = i64(&e.Size, v)
		case 5:
			err = u32(&e.Nlink, v)
		case 6:
			e.Target, err = parseString(p, MaxPath)
		case 7:
			e.Xattrs, err = parseSum(p)
		}
		return err
	})
}

// Append encodes q.
func (q *DigestQuery) Append(b []byte) []byte {
	b = appendUint(b, 1, uint64(q.Tree))
	b = appendObj(b, 2, q.Obj)
	b = appendUint(b, 3, uint64(q.After))
	b = appendUint(b, 4, uint64(q.Off))
	b = appendUint(b, 5, uint64(q.Len))
	b = appendUint(b, 6, uint64(q.Block))
	for _, id := range q.Files {
		b = appendObj(b, 7, id)
	}
	b = appendUint(b, 8, uint64(q.Span))
	for _, k := range q.Spans { // the first may be 0, which is said all the same
		b = protowire.AppendVarint(protowire.AppendTag(b, 9, protowire.VarintType), uint64(k))
	}
	return b
}

// Parse decodes q from b and checks its bounds.
func (q *DigestQuery) Parse(b []byte) error {
	*q = DigestQuery{}
	err := eachField(b, func(n protowire.Number, v uint64, p []byte) (err error) {
		switch n {
		case 1:
			err = u32(&q.Tree, v)
		case 2:
			q.Obj, err = parseObj(p)
		case 3:
			q.After = Seq(v)
		case 4:
			err = i64(&q.Off, v)
		case 5:
			err = i64(&q.Len, v)
		case 6:
			var block int64
			err = i64(&block, v)
			q.Block = int(block)
		case 7:
			if len(q.Files) == FilesMax {
				return fmt.Errorf("%w: over %d files", ErrTooLarge, FilesMax)
			}
			var id ObjID
			id, err = parseObj(p)
			q.Files = append(q.Files, id)
		case 8:
			var span int64
			err = i64(&span, v)
			q.Span = int(span)
		case 9:
			if v >= maxSpan || len(q.Spans) == maxSpan {
				return fmt.Errorf("%w: span %d, the %dth", ErrTooLarge, v, len(q.Spans)+1)
			}
			q.Spans = append(q.Spans, int(v))
		}
		return err
	})
	if err == nil && q.Block < 512 {
		err = fmt.Errorf("%w: digests in blocks of %d", ErrInvalid, q.Block)
	}
	if err == nil {
		err = q.Check()
	}
	return err
}

// Append encodes r.
func (r *DigestReply) Append(b []byte) []byte {
	b = appendUint(b, 1, uint64(r.Applied))
	b = appendUint(b, 2, bit(r.Known))
	b = appendUint(b, 3, uint64(r.Size))
	if len(r.Sums) > 0 {
		b = protowire.AppendTag(b, 4, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(len(r.Sums)*len(Sum{})))
		for i := range r.Sums {
			b = append(b, r.Sums[i][:]...)
		}
	}
	return b
}

// Parse decodes r from b.
func (r *DigestReply) Parse(b []byte) error {
	*r = DigestReply{}
	return eachField(b, func(n protowire.Number, v uint64, p []byte) error {
		switch n {
		case 1:
			r.Applied = Seq(v)
		case 2:
			r.Known = v != 0
		case 3:
			return i64(&r.Size, v)
		case 4:
			if len(p)%len(Sum{}) != 0 {
				return fmt.Errorf("%w: digests of %d bytes", ErrInvalid, len(p))
			}
			r.Sums = make([]Sum, len(p)/len(Sum{}))
			for i := range r.Sums {
				copy(r.Sums[i][:], p[i*len(Sum{}):])
			}
		}
		return nil
	})
}

func appendSum(b []byte, n protowire.Number, s Sum) []byte {
	if s == (Sum{}) {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), s[:])
}

func parseSum(p []byte) (s Sum, err error) {
	if len(p) != len(s) {
		return s, fmt.Errorf("%w: digest of %d bytes", ErrInvalid, len(p))
	}
	copy(s[:], p)
	return s, nil
}

func bit(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}
