package fileop

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of a record, in protobuf wire format. Never reuse one.
// docs/formats/frame.md draws them.
const (
	fKind    = 1
	fTree    = 2
	fTime    = 3 // nested: sec (zigzag), nsec
	fObj     = 4 // 16 bytes: inode, generation, little endian
	fParent  = 5
	fName    = 6
	fParent2 = 7
	fName2   = 8
	fObj2    = 9
	fOff     = 10
	fOff2    = 11
	fLen     = 12
	fFlags   = 13
	fLast    = 14
	fNlink   = 15
	fData    = 16
	fAttr    = 17 // nested: 1 mode 2 uid 3 gid 4 rdev 5 mtime 6 atime
	fXattr   = 18 // nested, repeated: 1 name 2 value
	fNames   = 19 // joined by NUL
	fMtime   = 20
	fPMtime  = 21
	fPMtime2 = 22
	fPath    = 23
)

func appendUint(b []byte, n protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

func appendString(b []byte, n protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

func appendObj(b []byte, n protowire.Number, o ObjID) []byte {
	if o.IsZero() {
		return b
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, n, protowire.BytesType), 16)
	return protowire.AppendFixed64(protowire.AppendFixed64(b, o.Ino), o.Gen)
}

func appendTime(b []byte, n protowire.Number, t Time) []byte {
	if t.IsZero() {
		return b
	}
	sec := protowire.EncodeZigZag(t.Sec)
	b = protowire.AppendTag(b, n, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(protowire.SizeVarint(sec)+protowire.SizeVarint(uint64(t.Nsec))))
	return protowire.AppendVarint(protowire.AppendVarint(b, sec), uint64(t.Nsec))
}

func appendAttr(b []byte, a *Attr) []byte {
	if a == nil {
		return b
	}
	var tmp [80]byte
	in := tmp[:0]
	in = appendUint(in, 1, uint64(a.Mode))
	in = appendUint(in, 2, uint64(a.UID))
	in = appendUint(in, 3, uint64(a.GID))
	in = appendUint(in, 4, a.Rdev)
	in = appendTime(in, 5, a.Mtime)
	in = appendTime(in, 6, a.Atime)
	return protowire.AppendBytes(protowire.AppendTag(b, fAttr, protowire.BytesType), in)
}

// AppendRecord appends the record of o to b. Seq, Other and Path2 are not part of a
// record: the frame gives the first two. The Op is not checked.
func AppendRecord(b []byte, o *Op) []byte {
	b = appendUint(b, fKind, uint64(o.Kind))
	b = appendUint(b, fTree, uint64(o.Tree))
	b = appendTime(b, fTime, o.Time)
	b = appendObj(b, fObj, o.Obj)
	b = appendObj(b, fParent, o.Parent)
	b = appendString(b, fName, o.Name)
	b = appendObj(b, fParent2, o.Parent2)
	b = appendString(b, fName2, o.Name2)
	b = appendObj(b, fObj2, o.Obj2)
	b = appendUint(b, fOff, uint64(o.Off))
	b = appendUint(b, fOff2, uint64(o.Off2))
	b = appendUint(b, fLen, uint64(o.Len))
	b = appendUint(b, fFlags, uint64(o.Flags))
	if o.Last {
		b = appendUint(b, fLast, 1)
	}
	b = appendUint(b, fNlink, uint64(o.Nlink))
	b = appendAttr(b, o.Attr)
	for _, x := range o.Xattrs {
		in := appendString(nil, 1, x.Name)
		in = protowire.AppendBytes(protowire.AppendTag(in, 2, protowire.BytesType), x.Value)
		b = protowire.AppendBytes(protowire.AppendTag(b, fXattr, protowire.BytesType), in)
	}
	if len(o.Names) > 0 {
		b = appendString(b, fNames, strings.Join(o.Names, "\x00"))
	}
	b = appendTime(b, fMtime, o.Mtime)
	b = appendTime(b, fPMtime, o.PMtime)
	b = appendTime(b, fPMtime2, o.PMtime2)
	b = appendString(b, fPath, o.Path)
	if len(o.Data) > 0 {
		b = protowire.AppendBytes(protowire.AppendTag(b, fData, protowire.BytesType), o.Data)
	}
	return b
}

// eachField walks the fields of one message. Varints arrive in v, bytes in p.
func eachField(b []byte, f func(n protowire.Number, v uint64, p []byte) error) error {
	for len(b) > 0 {
		n, typ, l := protowire.ConsumeTag(b)
		if l < 0 {
			return fmt.Errorf("%w: tag", ErrInvalid)
		}
		b = b[l:]
		var v uint64
		var p []byte
		switch typ {
		case protowire.VarintType:
			v, l = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			p, l = protowire.ConsumeBytes(b)
		default:
			l = protowire.ConsumeFieldValue(n, typ, b)
		}
		if l < 0 {
			return fmt.Errorf("%w: field %d", ErrInvalid, n)
		}
		b = b[l:]
		if typ != protowire.VarintType && typ != protowire.BytesType {
			continue
		}
		if err := f(n, v, p); err != nil {
			return err
		}
	}
	return nil
}

func parseObj(p []byte) (ObjID, error) {
	if len(p) != 16 {
		return ObjID{}, fmt.Errorf("%w: object identity of %d bytes", ErrInvalid, len(p))
	}
	ino, _ := protowire.ConsumeFixed64(p)
	gen, _ := protowire.ConsumeFixed64(p[8:])
	return ObjID{ino, gen}, nil
}

func parseTime(p []byte) (Time, error) {
	sec, l := protowire.ConsumeVarint(p)
	if l < 0 {
		return Time{}, fmt.Errorf("%w: time", ErrInvalid)
	}
	nsec, l2 := protowire.ConsumeVarint(p[l:])
	if l2 < 0 || l+l2 != len(p) || nsec >= 1e9 {
		return Time{}, fmt.Errorf("%w: time", ErrInvalid)
	}
	return Time{protowire.DecodeZigZag(sec), uint32(nsec)}, nil
}

func u32(dst *uint32, v uint64) error {
	if v > 1<<32-1 {
		return fmt.Errorf("%w: %d does not fit 32 bits", ErrInvalid, v)
	}
	*dst = uint32(v)
	return nil
}

func i64(dst *int64, v uint64) error {
	if v > 1<<63-1 {
		return fmt.Errorf("%w: %d does not fit 63 bits", ErrInvalid, v)
	}
	*dst = int64(v)
	return nil
}

func parseAttr(p []byte) (*Attr, error) {
	a := new(Attr)
	err := eachField(p, func(n protowire.Number, v uint64, p []byte) (err error) {
		switch n {
		case 1:
			err = u32(&a.Mode, v)
		case 2:
			err = u32(&a.UID, v)
		case 3:
			err = u32(&a.GID, v)
		case 4:
			a.Rdev = v
		case 5:
			a.Mtime, err = parseTime(p)
		case 6:
			a.Atime, err = parseTime(p)
		}
		return err
	})
	return a, err
}

func parseXattr(p []byte) (x Xattr, err error) {
	err = eachField(p, func(n protowire.Number, _ uint64, p []byte) error {
		switch n {
		case 1:
			x.Name = string(p)
		case 2:
			x.Value = p
		}
		return nil
	})
	return x, err
}

// parseRecord fills o, which must be zero but for Seq and Other, and checks it. Data
// and xattr values stay slices of b.
func parseRecord(b []byte, o *Op) error {
	err := eachField(b, o.setField)
	if err != nil {
		return err
	}
	return o.Check()
}

func (o *Op) setField(n protowire.Number, v uint64, p []byte) (err error) {
	switch n {
	case fKind:
		if v > 255 {
			return fmt.Errorf("%w: kind %d", ErrInvalid, v)
		}
		o.Kind = Kind(v)
	case fTree:
		err = u32(&o.Tree, v)
	case fTime:
		o.Time, err = parseTime(p)
	case fObj:
		o.Obj, err = parseObj(p)
	case fParent:
		o.Parent, err = parseObj(p)
	case fName:
		o.Name, err = parseString(p, MaxName)
	case fParent2:
		o.Parent2, err = parseObj(p)
	case fName2:
		o.Name2, err = parseString(p, MaxName)
	case fObj2:
		o.Obj2, err = parseObj(p)
	case fOff:
		err = i64(&o.Off, v)
	case fOff2:
		err = i64(&o.Off2, v)
	case fLen:
		err = i64(&o.Len, v)
	case fFlags:
		err = u32(&o.Flags, v)
	case fLast:
		o.Last = v != 0
	case fNlink:
		err = u32(&o.Nlink, v)
	case fData:
		o.Data = p
	case fAttr:
		o.Attr, err = parseAttr(p)
	case fXattr:
		if len(o.Xattrs) == MaxXattr {
			return fmt.Errorf("%w: over %d attributes", ErrTooLarge, MaxXattr)
		}
		var x Xattr
		x, err = parseXattr(p)
		o.Xattrs = append(o.Xattrs, x)
	case fNames:
		if strings.Count(string(p), "\x00") >= MaxNames {
			return fmt.Errorf("%w: over %d names", ErrTooLarge, MaxNames)
		}
		o.Names = strings.Split(string(p), "\x00")
	case fMtime:
		o.Mtime, err = parseTime(p)
	case fPMtime:
		o.PMtime, err = parseTime(p)
	case fPMtime2:
		o.PMtime2, err = parseTime(p)
	case fPath:
		o.Path, err = parseString(p, MaxPath)
	}
	return err
}

func parseString(p []byte, limit int) (string, error) {
	if len(p) > limit {
		return "", fmt.Errorf("%w: text of %d bytes", ErrTooLarge, len(p))
	}
	return string(p), nil
}

// RecordSize is how many bytes AppendRecord appends.
func RecordSize(o *Op) int {
	own := *o
	own.Data = nil
	var tmp [512]byte
	n := len(AppendRecord(tmp[:0], &own))
	if len(o.Data) > 0 {
		n += protowire.SizeTag(fData) + protowire.SizeBytes(len(o.Data))
	}
	return n
}
