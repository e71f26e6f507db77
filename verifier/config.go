package verifier

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"understudy/fileop"
)

// Tree is a source directory as it is read beside live changes. All methods, and those of
// what they open, may be called by several goroutines at once.
type Tree interface {
	// Dir opens a directory by the entry it was listed with.
	Dir(e fileop.Entry) (Dir, error)
	// File opens a regular file by its entry.
	File(e fileop.Entry) (File, error)
	// Lookup finds an entry by its path relative to the root, through no link.
	Lookup(path string) (fileop.Entry, error)
}

// Dir is an open directory.
type Dir interface {
	// WithLock calls fn while no captured operation can change the names in it.
	WithLock(fn func() error) error
	Path() (string, error) // relative to the tree
	Names() ([]string, error)
	Entry(name string) (fileop.Entry, error)
	Self() (fileop.Entry, error)
	Close() error
}

// Opener is a Dir that opens a regular file with its entry at once. The File is nil for all
// other types.
type Opener interface {
	OpenEntry(name string) (fileop.Entry, File, error)
}

// File is an open regular file.
type File interface {
	// WithLock calls fn while no captured operation can change the file.
	WithLock(fn func() error) error
	ReadAt(p []byte, off int64) (int, error)
	Self() (fileop.Entry, error)
	Close() error
}

// Rules are those of the replication set. Paths are absolute paths on the source.
type Rules interface {
	Selects(path string, dir bool) bool
	Leads(dir string) bool
}

// Log takes questions into the order of the queue; stream.Journal is one.
type Log interface {
	Put(op *fileop.Op) (fileop.Seq, error)
}

// Target answers what the replica holds.
type Target interface {
	List(ctx context.Context, q fileop.ListQuery) (fileop.ListReply, error)
	Digests(ctx context.Context, q fileop.DigestQuery) (fileop.DigestReply, error)
	// Answer fetches the answer of the question with this token, waiting for some
	// seconds. A reply that is not Ready tells how far the target is.
	Answer(ctx context.Context, token uint64) (fileop.ProbeReply, error)
}

// Root is one root directory of the set.
type Root struct {
	Tree     Tree
	Index    uint32
	TreePath string       // absolute path of the tree's root
	Dir      string       // absolute path of the set's root directory: TreePath or below
	Obj      fileop.ObjID // the root directory, as it was when the connection began
	Exact    bool         // WithLock excludes writers
	// Present reports why Dir does not lead to Obj any more; nil: it always does. A tree
	// is read through descriptors, which an unmounted or renamed directory outlives.
	Present func() error
	// Settle returns when the target has everything that happened to the tree before the
	// call, or why it cannot tell; nil: WithLock excludes writers, or nobody watches.
	Settle func(context.Context) error
}

// Config of a Verifier.
type Config struct {
	Roots  []Root
	Rules  Rules
	Log    Log
	Target Target
	Gone   func(error) bool // an object vanished meanwhile
	// LinkTarget rewrites the target of a symbolic link at path; nil: as it is.
	LinkTarget func(path, target string) string
	BlockSize  int // bytes; of digests
	Logger     *slog.Logger
}

// Options of a run.
type Options struct {
	Checksum bool // compare the content of every file; else equal date and size prove it
	// Orphans only: nothing is compared but which names there are.
	OrphansOnly bool
	// Treat has orphans removed or set aside by the target, those at least MinAge old.
	Treat  bool
	MinAge time.Duration
}

// Kind says in what two things differ.
type Kind string

// The kinds.
const (
	Missing  Kind = "missing"  // the target has nothing there
	Orphan   Kind = "orphan"   // the source has nothing there
	Type     Kind = "type"     // file, directory, link, ...
	Replaced Kind = "replaced" // the target has another object there than the one the replica made
	Size     Kind = "size"
	Content  Kind = "content"
	Time     Kind = "time"
	Mode     Kind = "mode"
	Owner    Kind = "owner"
	Device   Kind = "device" // number of a device
	Link     Kind = "link"   // target of a symbolic link
	Xattrs   Kind = "xattrs" // extended attributes, ACLs among them
)

// Difference is one name that differs.
type Difference struct {
	Path    string       `json:"path"`  // absolute, on the source
	Kinds   []Kind       `json:"kinds"` // of one difference, in the order above
	Bytes   int64        `json:"bytes"` // of content that a mirror would send; of an orphan: what the target has
	Blocks  int64        `json:"blocks,omitempty"`
	Treated string       `json:"treated,omitempty"` // of an orphan: removed, moved, spared
	Seq     fileop.Seq   `json:"seq"`               // the operation at which both were compared
	Obj     fileop.ObjID `json:"-"`
}

// Totals of a run.
type Totals struct {
	Files        uint64 `json:"files"` // everything but directories that was compared
	Dirs         uint64 `json:"dirs"`
	Bytes        uint64 `json:"bytes"` // size of the files
	Read         uint64 `json:"read"`  // bytes of content compared
	Different    uint64 `json:"different"`
	Missing      uint64 `json:"missing"` // of Different
	Orphans      uint64 `json:"orphans"` // of Different
	ToSend       uint64 `json:"to_send"` // bytes
	Treated      uint64 `json:"treated"` // orphans removed or set aside
	Spared       uint64 `json:"spared"`
	TreatedBytes uint64 `json:"treated_bytes"`
	Excluded     uint64 `json:"excluded"`  // names of the target that the rules leave alone
	Unsettled    uint64 `json:"unsettled"` // what changed at every look and could not be compared
	Errors       uint64 `json:"errors"`    // what could not be read
}

// Errors that end a run.
var (
	// ErrRoot: a root directory is missing or is another one than the connection
	// protects: unmounted, or exchanged.
	ErrRoot = errors.New("source directory is missing or another one")
	// ErrStopped: the run was stopped.
	ErrStopped = errors.New("verification stopped")
	// ErrBehind: the target does not answer what was put into the queue.
	ErrBehind = errors.New("target does not answer")
)
