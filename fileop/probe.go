package fileop

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Probe asks the target about one object exactly at one place in the order. It travels as
// the Data of a Barrier, put into the queue under the lock under which the source was
// read: the target answers when it applies the Barrier, so both looked at the same moment.
// The answer is kept for the source to fetch by Token.
type Probe struct {
	Token uint64 // names the question; never 0
	Tree  uint32
	Obj   ObjID  // with a Name the directory, without one the object itself
	Name  string // the name in directory Obj; "": Obj
	Off   int64  // digests of Len bytes of a file from here; Len 0: none
	Len   int64  // at most DigestMax
	Block int    // bytes of one block
	// Treat says that the source has nothing under Name: what the target has there is an
	// orphan, to be removed or set aside as the target's settings say, if it is older
	// than MinAge seconds.
	Treat  bool
	MinAge int64
}

// Treated says what became of an orphan.
type Treated uint8

// What became of it. The numbers are on the wire.
const (
	Untouched Treated = iota
	Removed           // deleted with all below
	SetAside          // moved to the directory for orphans
	Spared            // too young, not an orphan, or nothing there
)

// ProbeReply answers a Probe.
type ProbeReply struct {
	Ready   bool // false: not applied yet, or the answer was lost; Applied tells which
	Applied Seq  // operations applied when this was sent
	Known   bool // the target has Obj
	There   bool // the target has Name; without a name as Known
	Entry   TargetEntry
	Sums    []Sum // of the blocks that start inside the file; the last may be short
	Err     string

	Treated Treated
	Files   uint64 // treated: everything but directories
	Dirs    uint64
	Bytes   uint64
}

// Append encodes q.
func (q *Probe) Append(b []byte) []byte {
	b = appendUint(b, 1, q.Token)
	b = appendUint(b, 2, uint64(q.Tree))
	b = appendObj(b, 3, q.Obj)
	b = appendString(b, 4, q.Name)
	b = appendUint(b, 5, uint64(q.Off))
	b = appendUint(b, 6, uint64(q.Len))
	b = appendUint(b, 7, uint64(q.Block))
	b = appendUint(b, 8, bit(q.Treat))
	return appendUint(b, 9, uint64(q.MinAge))
}

// Parse decodes q from b and checks its bounds.
func (q *Probe) Parse(b []byte) error {
	*q = Probe{}
	err := eachField(b, func(n protowire.Number, v uint64, p []byte) (err error) {
		switch n {
		case 1:
			q.Token = v
		case 2:
			err = u32(&q.Tree, v)
		case 3:
			q.Obj, err = parseObj(p)
		case 4:
			q.Name, err = parseString(p, MaxName)
		case 5:
			err = i64(&q.Off, v)
		case 6:
			err = i64(&q.Len, v)
		case 7:
			var block int64
			err = i64(&block, v)
			q.Block = int(block)
		case 8:
			q.Treat = v != 0
		case 9:
			err = i64(&q.MinAge, v)
		}
		return err
	})
	if err != nil {
		return err
	}
	if q.Name != "" {
		if err := CheckName(q.Name); err != nil {
			return fmt.Errorf("probe: %w", err)
		}
	}
	if q.Token == 0 || q.Obj.IsZero() || q.Treat && q.Name == "" {
		return fmt.Errorf("%w: probe without a token, an object or a name", ErrInvalid)
	}
	if q.Len > DigestMax || q.Len > 0 && (q.Block < 512 || q.Block > DigestMax) || q.Off+q.Len < 0 {
		return fmt.Errorf("%w: probe of %d bytes in blocks of %d", ErrInvalid, q.Len, q.Block)
	}
	return nil
}

// Append encodes r.
func (r *ProbeReply) Append(b []byte) []byte {
	b = appendUint(b, 1, bit(r.Ready))
	b = appendUint(b, 2, uint64(r.Applied))
	b = appendUint(b, 3, bit(r.Known))
	b = appendUint(b, 4, bit(r.There))
	b = protowire.AppendBytes(protowire.AppendTag(b, 5, protowire.BytesType), r.Entry.append(nil))
	for i := range r.Sums {
		b = protowire.AppendBytes(protowire.AppendTag(b, 6, protowire.BytesType), r.Sums[i][:])
	}
	b = appendString(b, 7, r.Err)
	b = appendUint(b, 8, uint64(r.Treated))
	b = appendUint(b, 9, r.Files)
	b = appendUint(b, 10, r.Dirs)
	return appendUint(b, 11, r.Bytes)
}

// Parse decodes r from b.
func (r *ProbeReply) Parse(b []byte) error {
	*r = ProbeReply{}
	return eachField(b, func(n protowire.Number, v uint64, p []byte) (err error) {
		switch n {
		case 1:
			r.Ready = v != 0
		case 2:
			r.Applied = Seq(v)
		case 3:
			r.Known = v != 0
		case 4:
			r.There = v != 0
		case 5:
			err = r.Entry.parseNameless(p)
		case 6:
			if len(r.Sums) >= DigestMax/512 {
				return fmt.Errorf("%w: over %d digests", ErrTooLarge, DigestMax/512)
			}
			var s Sum
			s, err = parseSum(p)
			r.Sums = append(r.Sums, s)
		case 7:
			r.Err, err = parseString(p, MaxPath)
		case 8:
			if v > uint64(Spared) {
				return fmt.Errorf("%w: treatment %d", ErrInvalid, v)
			}
			r.Treated = Treated(v)
		case 9:
			r.Files = v
		case 10:
			r.Dirs = v
		case 11:
			r.Bytes = v
		}
		return err
	})
}
