package fileop

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// Limits of one record. A decoder refuses more, an encoder returns ErrTooLarge.
const (
	MaxData  = 512 << 10 // bytes of file content in one record (research: larger messages gain nothing)
	MaxName  = 255       // bytes of one path component (NAME_MAX)
	MaxPath  = 4096      // bytes of a path hint (PATH_MAX)
	MaxNames = 16384     // names in one MirrorDir record; a longer list is split (FlagMore)
	MaxXattr = 256       // extended attributes in one record
)

// Seq numbers the operations of one connection and epoch from 1, without gaps.
// Mirror records use the same type for their own counter.
type Seq uint64

// Epoch tells unbroken runs of capture apart. A new epoch means operations may have
// been missed before it: the target is a past moment of the source again only after
// the next MirrorEnd.
type Epoch uint64

// ObjID names a source object for its whole life, whatever its names.
type ObjID struct {
	Ino uint64
	Gen uint64 // digest of the kernel's file handle, so that a reused inode number does not alias
}

// IsZero reports whether o names nothing.
func (o ObjID) IsZero() bool { return o == ObjID{} }

func (o ObjID) String() string { return fmt.Sprintf("%d.%x", o.Ino, o.Gen) }

// Time is a file time with its full range and resolution.
type Time struct {
	Sec  int64
	Nsec uint32
}

// HalfSent is the modification time that a target gives a file while its content is still
// to come by a mirror: should the run end before, a later one by date and size finds it
// different.
var HalfSent = Time{Nsec: 1}

// IsZero reports whether t is the zero value, which stands for "not known".
func (t Time) IsZero() bool { return t == Time{} }

// Attr is the full resulting state of an object's attributes, so that setting it
// twice is the same as once.
type Attr struct {
	Mode  uint32 // st_mode, with type bits
	UID   uint32
	GID   uint32
	Rdev  uint64
	Mtime Time
	Atime Time // zero: not replicated (B5.27: a change of access time alone is not)
}

// Xattr is one extended attribute. POSIX ACLs travel as system.posix_acl_*.
type Xattr struct {
	Name  string
	Value []byte
}

// Kind says what an operation does.
type Kind uint8

// Numbers are on the wire and on disk: never reuse one.
const (
	// Names, ordered per directory. PMtime (and PMtime2) is the directory's
	// modification time after the operation.
	Create  Kind = 1 // regular file with Attr, Xattrs; an empty Name is an O_TMPFILE object, linked later
	Mkdir   Kind = 2 // Attr, Xattrs
	Mknod   Kind = 3 // fifo, socket, device (Attr.Mode type bits, Attr.Rdev)
	Symlink Kind = 4 // Data is the target of the link
	Link    Kind = 5 // Obj gets the further name Parent/Name
	Unlink  Kind = 6 // Last: Obj has no name left
	Rmdir   Kind = 7 // FlagTree: with everything below (a directory that left the set)
	Rename  Kind = 8 // Parent/Name to Parent2/Name2; Obj2 is the replaced or exchanged object; Last: Obj2 lost its last name

	// Content, ordered per object. Mtime is Obj's modification time after the operation.
	Write     Kind = 16 // Data at Off
	Truncate  Kind = 17 // size becomes Len
	Fallocate Kind = 18 // Off, Len, Flags = fallocate(2) mode
	CopyRange Kind = 19 // Obj at Off to Obj2 at Off2, Len bytes; Mtime is Obj2's

	// Attributes.
	SetAttr     Kind = 24 // Attr, full state
	SetXattr    Kind = 25 // Xattrs (one or more are set, others untouched)
	RemoveXattr Kind = 26 // Xattrs names

	// Marks in the order of the queue.
	Sync    Kind = 32 // an fsync, fdatasync or syncfs on the source returned: a recovery-point hint
	Barrier Kind = 33 // operator or snapshot marker, Path = label
	Task    Kind = 34 // a task command (B8.26), Data = its definition
	Gap     Kind = 35 // first operation of an epoch

	// The mirror's own. MirrorBegin, MirrorEnd and MirrorAbort travel in the queue
	// lane, the others in the mirror lane.
	MirrorBegin   Kind = 48 // Len = run number
	MirrorEntry   Kind = 49 // upsert Parent/Name -> Obj with Attr, Xattrs, Nlink, Len = size; Data = symlink target or, with FlagWhole, the whole content
	MirrorBlock   Kind = 50 // Data at Off; FlagHole: Len bytes of hole at Off
	MirrorFileEnd Kind = 51 // Len = size, Attr, Xattrs complete: trims and settles
	MirrorDir     Kind = 52 // Names = complete list of Obj's selected names; FlagMore: the list goes on
	MirrorEnd     Kind = 53 // Len = run number: from here every prefix is a past moment of the source
	MirrorAbort   Kind = 54 // Len = run number: mirror records up to Other may never arrive
	MirrorDirEnd  Kind = 55 // Obj is a directory whose entries are all sent; Attr, Xattrs complete
)

var kindNames = map[Kind]string{
	Create: "create", Mkdir: "mkdir", Mknod: "mknod", Symlink: "symlink", Link: "link",
	Unlink: "unlink", Rmdir: "rmdir", Rename: "rename", Write: "write", Truncate: "truncate",
	Fallocate: "fallocate", CopyRange: "copy-range", SetAttr: "set-attr", SetXattr: "set-xattr",
	RemoveXattr: "remove-xattr", Sync: "sync", Barrier: "barrier", Task: "task", Gap: "gap",
	MirrorBegin: "mirror-begin", MirrorEntry: "mirror-entry", MirrorBlock: "mirror-block",
	MirrorFileEnd: "mirror-file-end", MirrorDir: "mirror-dir", MirrorEnd: "mirror-end",
	MirrorAbort: "mirror-abort", MirrorDirEnd: "mirror-dir-end",
}

// Known reports whether this version understands k.
func (k Kind) Known() bool { return kindNames[k] != "" }

func (k Kind) String() string {
	if s := kindNames[k]; s != "" {
		return s
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// IsName reports whether k changes names (and so is a barrier for the objects it names).
func (k Kind) IsName() bool { return k >= Create && k <= Rename }

// IsData reports whether k changes the content of Obj.
func (k Kind) IsData() bool { return k >= Write && k <= CopyRange }

// Lane says which of the two orders a record belongs to.
type Lane uint8

const (
	LaneQueue  Lane = 1
	LaneMirror Lane = 2
)

// Lane of records of kind k.
func (k Kind) Lane() Lane {
	switch k {
	case MirrorEntry, MirrorBlock, MirrorFileEnd, MirrorDir, MirrorDirEnd:
		return LaneMirror
	}
	return LaneQueue
}

// Flags of mirror records and of Rmdir. For Fallocate and Rename, Flags hold the
// kernel's own values (FALLOC_FL_*, RENAME_EXCHANGE; NOREPLACE is dropped and
// WHITEOUT lowered to Rename and Mknod by capture).
const (
	FlagWhole uint32 = 1 << 0 // MirrorEntry: Data is the whole content, the file is settled
	FlagHole  uint32 = 1 << 1 // MirrorBlock: a hole of Len bytes
	FlagMore  uint32 = 1 << 2 // MirrorDir: the list of names goes on in the next record
	FlagTree  uint32 = 1 << 3 // Rmdir, Unlink: remove with everything below
	FlagOver  uint32 = 1 << 4 // MirrorDirEnd: a batch of hints is over; what was unlisted and did not come back is removed
)

// RenameExchange is RENAME_EXCHANGE of renameat2(2), the one rename flag that travels.
const RenameExchange uint32 = 2

// Op is one captured change, or one record of a mirror. Which fields count is said
// at each Kind. The zero value of a field is not sent.
//
// Whoever is handed an Op may read it during the call; Data belongs to the callee
// afterwards only where that callee says so.
type Op struct {
	Seq   Seq // number within the lane; set when the record is logged
	Other Seq // records of the other lane logged before this one

	Kind    Kind
	Tree    uint32 // which root of the connection, from 0
	Time    Time   // source clock when logged; zero: as the record before
	Obj     ObjID
	Parent  ObjID
	Name    string
	Parent2 ObjID
	Name2   string
	Obj2    ObjID
	Off     int64
	Off2    int64
	Len     int64
	Flags   uint32
	Last    bool
	Nlink   uint32
	Data    []byte
	Attr    *Attr
	Xattrs  []Xattr
	Names   []string
	Mtime   Time
	PMtime  Time
	PMtime2 Time
	Path    string // hint for rules and logs, relative to the tree; never used to find an object
	Path2   string // hint: the new path of a rename; not sent

	// Token names the captured request, so that a daemon that took over from a killed
	// one can tell whether it was logged; 0: nobody will ask. It is not sent. Operations
	// of one request that are given out one after another have each their own, and
	// tokens that may be asked for at the same time differ in Token % TokenSlots.
	Token uint64
}

// TokenSlots bounds the requests with a Token that are unanswered at the same time, so
// that a log need remember only the last Token of each slot.
const TokenSlots = 4096

// LogValue shows an operation without its content.
func (o Op) LogValue() slog.Value {
	return slog.GroupValue(slog.String("kind", o.Kind.String()), slog.Uint64("seq", uint64(o.Seq)),
		slog.String("obj", o.Obj.String()), slog.String("name", o.Name), slog.String("path", o.Path),
		slog.Int64("off", o.Off), slog.Int("bytes", len(o.Data)))
}

// Errors of encoding and decoding. All are wrapped with what was found.
var (
	ErrTooLarge = errors.New("record over its limit")
	ErrInvalid  = errors.New("invalid record")
)

// CheckName refuses what cannot be one path component: the target never builds a
// path from anything else.
func CheckName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%w: name %q", ErrInvalid, name)
	case len(name) > MaxName:
		return fmt.Errorf("%w: name of %d bytes", ErrInvalid, len(name))
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("%w: name %q", ErrInvalid, name)
	}
	return nil
}

// Check refuses a record that no honest source sends: bad names, negative offsets,
// oversize fields, unknown kinds. Encoders and decoders both call it.
func (o *Op) Check() error {
	if !o.Kind.Known() {
		return fmt.Errorf("%w: kind %d is not known to this version", ErrInvalid, o.Kind)
	}
	if o.Off < 0 || o.Off2 < 0 || o.Len < 0 || o.Off+int64(len(o.Data)) < 0 || o.Off+o.Len < 0 || o.Off2+o.Len < 0 {
		return fmt.Errorf("%w: %s with offset %d, length %d", ErrInvalid, o.Kind, o.Off, o.Len)
	}
	if len(o.Data) > MaxData || len(o.Path) > MaxPath || len(o.Names) > MaxNames || len(o.Xattrs) > MaxXattr {
		return fmt.Errorf("%w: %s with %d bytes, %d names, %d attributes", ErrTooLarge, o.Kind, len(o.Data), len(o.Names), len(o.Xattrs))
	}
	if o.needsName() || o.Name != "" {
		if err := CheckName(o.Name); err != nil {
			return fmt.Errorf("%s: %w", o.Kind, err)
		}
	}
	if o.Kind == Rename || o.Name2 != "" {
		if err := CheckName(o.Name2); err != nil {
			return fmt.Errorf("%s: %w", o.Kind, err)
		}
	}
	for _, n := range o.Names {
		if err := CheckName(n); err != nil {
			return fmt.Errorf("%s: %w", o.Kind, err)
		}
	}
	for _, x := range o.Xattrs {
		if x.Name == "" || len(x.Name) > MaxName || len(x.Value) > 64<<10 || strings.Contains(x.Name, "\x00") {
			return fmt.Errorf("%w: extended attribute %q of %d bytes", ErrInvalid, x.Name, len(x.Value))
		}
	}
	if o.needsAttr() && o.Attr == nil {
		return fmt.Errorf("%w: %s without attributes", ErrInvalid, o.Kind)
	}
	return nil
}

func (o *Op) needsName() bool {
	switch o.Kind {
	case Mkdir, Mknod, Symlink, Link, Unlink, Rmdir, Rename:
		return true
	}
	return false
}

func (o *Op) needsAttr() bool {
	switch o.Kind {
	case Create, Mkdir, Mknod, Symlink, SetAttr, MirrorEntry, MirrorFileEnd, MirrorDirEnd:
		return true
	}
	return false
}

// Entry is one name in a directory, as a tree lists it.
type Entry struct {
	Name   string
	Obj    ObjID
	Attr   Attr
	Size   int64
	Nlink  uint32
	Target string  // of a symbolic link
	Xattrs []Xattr // complete
	Ctime  Time    // when the source's kernel last saw a change; it never travels
	Ref    []byte  // how the tree that listed it opens the object again; opaque to others
}
