package fileop

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
}

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
}

// Bounds of a query about whole files: together they have at most DigestMax bytes.
const (
	SmallFile = 64 << 10
	FilesMax  = DigestMax / SmallFile
)

// DigestMax bounds the bytes one DigestQuery covers, so that answering it holds up
// applying for some milliseconds only.
const DigestMax = 16 << 20

// DigestReply answers a DigestQuery.
type DigestReply struct {
	Applied Seq
	Known   bool
	Size    int64 // of the whole file
	// Sums are of the blocks that start inside the file; the last may be short. Of Files:
	// one each, in order, zero for what is unknown, no file, or too large.
	Sums []Sum
}
