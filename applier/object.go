package applier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// key names a source object within the connection.
type key struct {
	tree uint32
	id   fileop.ObjID
}

// place is one name in one directory of a tree. A zero parent means the staging
// directory.
type place struct {
	parent fileop.ObjID
	name   string
}

// object is what the catalog knows of one object.
type object struct {
	key
	kind   uint32       // type bits of st_mode
	ident  fileop.ObjID // of the target's file, by its file handle
	names  []place      // on the target; empty for a root
	defACL bool         // a directory whose children inherit an ACL
}

func (o *object) isDir() bool { return o.kind == unix.S_IFDIR }
func (o *object) isReg() bool { return o.kind == unix.S_IFREG }

func (o *object) has(p place) bool {
	for _, n := range o.names {
		if n == p {
			return true
		}
	}
	return false
}

// namelessName is the name in the staging directory of an object that has none, with
// prefix "o-", or of one the mirror parked, with "p-".
func namelessName(prefix string, id fileop.ObjID) string {
	return prefix + strconv.FormatUint(id.Ino, 16) + "-" + strconv.FormatUint(id.Gen, 16)
}

var errCatalog = errors.New("catalog is damaged: remove it and mirror again")

// appendKey encodes so that entries of one directory, and objects by inode, are neighbours.
func appendKey(b []byte, tree uint32, id fileop.ObjID) []byte {
	b = binary.BigEndian.AppendUint32(b, tree)
	b = binary.BigEndian.AppendUint64(b, id.Ino)
	return binary.BigEndian.AppendUint64(b, id.Gen)
}

const keySize = 20

func appendID(b []byte, id fileop.ObjID) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, id.Ino), id.Gen)
}

func parseID(b []byte) fileop.ObjID {
	return fileop.ObjID{Ino: binary.BigEndian.Uint64(b), Gen: binary.BigEndian.Uint64(b[8:])}
}

// encode is the value under the object's key: kind, flags, target identity, then each
// name as parent, length, bytes.
func (o *object) encode() []byte {
	b := make([]byte, 0, 21+len(o.names)*48)
	b = binary.BigEndian.AppendUint32(b, o.kind)
	flags := byte(0)
	if o.defACL {
		flags = 1
	}
	b = append(b, flags)
	b = appendID(b, o.ident)
	for _, p := range o.names {
		b = appendID(b, p.parent)
		b = binary.AppendUvarint(b, uint64(len(p.name)))
		b = append(b, p.name...)
	}
	return b
}

func decodeObject(k key, b []byte) (*object, error) {
	if len(b) < 21 {
		return nil, fmt.Errorf("%w: object of %d bytes", errCatalog, len(b))
	}
	o := &object{key: k, kind: binary.BigEndian.Uint32(b), defACL: b[4]&1 != 0, ident: parseID(b[5:])}
	for b = b[21:]; len(b) > 0; {
		if len(b) < 17 {
			return nil, fmt.Errorf("%w: short name", errCatalog)
		}
		n, l := binary.Uvarint(b[16:])
		if l <= 0 || uint64(len(b)-16-l) < n {
			return nil, fmt.Errorf("%w: name length", errCatalog)
		}
		end := 16 + l + int(n)
		o.names = append(o.names, place{parseID(b), string(b[16+l : end])})
		b = b[end:]
	}
	return o, nil
}
