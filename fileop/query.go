package fileop

import "fmt"

// Sum is a 128-bit digest (xxh3) of a block, an attribute set or a directory; see
// internal/digest. 128 bits, because an undetected collision would be silent damage.
type Sum [16]byte

// ListQuery asks the target what it holds in a directory. The answer is exact for the
// state after the records the reply names.
type ListQuery struct {
	Tree  uint32
	Obj   ObjID  // the directory
	After Seq    // the mirror record that must have been applied first
	Sum   Sum    // the asker's digest of the directory; zero: send the entries in any case
	From  string // entries with names greater than this, sorted; "" from the start
	// Content: Sum is digest.Content, of the content too, of files of at most SmallFile
	// bytes; they are at most FilesMax, with at most ContentMax bytes together. A target that
	// does not know of this finds nothing the same.
	Content bool
}

// ContentMax bounds the content that one ListQuery is about, in bytes: the target applies
// nothing while it reads it.
const ContentMax = 4 << 20

// ListReply answers a ListQuery. At most ListMax entries travel in one reply.
type ListReply struct {
	Applied Seq  // queue operations applied when this was true
	Known   bool // the target has the directory
	Same    bool // the digests are equal; Entries is empty
	More    bool // ask again From the last name
	Entries []TargetEntry
}

// ListMax bounds the entries of one ListReply.
const ListMax = 4096

// TargetEntry is one name on the target.
type TargetEntry struct {
	Name   string
	Obj    ObjID // zero: the target does not know whose file this is (an orphan, or never mirrored)
	Attr   Attr
	Size   int64
	Nlink  uint32
	Target string // of a symbolic link
	Xattrs Sum    // digest.Xattrs of the attributes; zero if none
}

// DigestQuery asks for the digests of a file's blocks, or of whole small files.
type DigestQuery struct {
	Tree  uint32
	Obj   ObjID
	After Seq // as in ListQuery
	Off   int64
	Len   int64 // at most DigestMax
	Block int   // bytes of one block
	// Files are asked about instead of Obj: one digest of each, if it has at most SmallFile
	// bytes. At most FilesMax. A target that does not know of this answers without digests.
	Files []ObjID
	// Spans are asked about instead of Len: the parts of Block bytes of some spans of Span
	// bytes, which are counted from Off. A target that does not know of this answers
	// without digests.
	Span  int
	Spans []int
}

// Bounds of a query about whole files: together they have at most DigestMax bytes.
const (
	SmallFile = 64 << 10
	FilesMax  = DigestMax / SmallFile
)

// DigestMax bounds the bytes one DigestQuery covers, so that answering it holds up
// applying for some milliseconds only.
const DigestMax = 16 << 20

// maxSpan bounds the number of a span: whatever is covered by one query lies this near.
const maxSpan = DigestMax / 512

// Check reports what no honest source asks.
func (q *DigestQuery) Check() error {
	switch {
	case q.Off < 0 || q.Len < 0 || q.Len > DigestMax || q.Off+q.Len < 0:
		return fmt.Errorf("%w: digests of %d bytes at %d", ErrInvalid, q.Len, q.Off)
	case q.Block <= 0 || q.Block > DigestMax:
		return fmt.Errorf("%w: digests of blocks of %d bytes", ErrInvalid, q.Block)
	case len(q.Files) > FilesMax:
		return fmt.Errorf("%w: digests of %d files", ErrTooLarge, len(q.Files))
	case len(q.Spans) == 0:
		return nil
	case q.Span <= 0 || q.Span > DigestMax || q.Span%q.Block != 0 || len(q.Spans) > DigestMax/q.Span:
		return fmt.Errorf("%w: digests of %d spans of %d bytes in blocks of %d", ErrInvalid, len(q.Spans), q.Span, q.Block)
	}
	for _, k := range q.Spans {
		if k < 0 || k >= maxSpan || q.Off+int64(k+1)*int64(q.Span) < 0 {
			return fmt.Errorf("%w: digests of span %d at %d", ErrInvalid, k, q.Off)
		}
	}
	return nil
}

// DigestReply answers a DigestQuery.
type DigestReply struct {
	Applied Seq
	Known   bool
	Size    int64 // of the whole file
	// Sums are of the blocks that start inside the file; the last may be short. Of Files:
	// one each, in order, zero for what is unknown, no file, or too large. Of Spans:
	// Span/Block each, in order, zero for what is behind the end of the file.
	Sums []Sum
}
