package model

import (
	"encoding/binary"
	"maps"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

const (
	accessACL  = "system.posix_acl_access"
	capability = "security.capability"
)

func xattrMap(xs []fileop.Xattr) map[string]string {
	if len(xs) == 0 {
		return nil
	}
	m := make(map[string]string, len(xs))
	for _, x := range xs {
		m[x.Name] = string(x.Value)
	}
	return m
}

func (o *object) setXattr(name, value string) {
	m := maps.Clone(o.xattrs)
	if m == nil {
		m = map[string]string{}
	}
	m[name] = value
	o.xattrs = m
}

func (o *object) dropXattr(name string) {
	if _, ok := o.xattrs[name]; ok {
		m := maps.Clone(o.xattrs)
		delete(m, name)
		o.xattrs = m
	}
}

func (t *tree) attributes(op *fileop.Op) error {
	o := t.objs[op.Obj]
	if o == nil {
		return errDropped
	}
	switch op.Kind {
	case fileop.SetAttr:
		o.setAttr(op.Attr)
	case fileop.SetXattr:
		for _, x := range op.Xattrs {
			if x.Name == accessACL {
				o.setACL(string(x.Value))
			} else {
				o.setXattr(x.Name, string(x.Value))
			}
		}
	case fileop.RemoveXattr:
		for _, x := range op.Xattrs {
			o.dropXattr(x.Name)
		}
	}
	if !op.Mtime.IsZero() {
		o.attr.Mtime = op.Mtime
	}
	return nil
}

// setAttr takes the full state. The type stays, and so does an unknown time.
func (o *object) setAttr(a *fileop.Attr) {
	if o.attr.UID != a.UID || o.attr.GID != a.GID {
		o.dropXattr(capability)
	}
	o.attr.UID, o.attr.GID = a.UID, a.GID
	if o.attr.Mode&unix.S_IFMT != unix.S_IFLNK {
		o.attr.Mode = o.attr.Mode&unix.S_IFMT | a.Mode&0o7777
		o.aclFollowsMode()
	}
	if !a.Mtime.IsZero() {
		o.attr.Mtime = a.Mtime
	}
}

// Tags of ACL entries (linux/posix_acl.h), in the 8 bytes of each: tag, permissions, id.
const (
	aclUserObj  = 0x01
	aclGroupObj = 0x04
	aclMask     = 0x10
	aclOther    = 0x20
)

// aclEntries calls f with each entry of an ACL attribute.
func aclEntries(acl []byte, f func(tag uint16, entry []byte)) {
	for i := 4; i+8 <= len(acl); i += 8 {
		f(binary.LittleEndian.Uint16(acl[i:]), acl[i:i+8])
	}
}

// setACL sets an access ACL and the mode with it. One that says no more than a mode
// can is not kept.
func (o *object) setACL(value string) {
	var user, group, mask, other, more uint32
	hasMask := false
	aclEntries([]byte(value), func(tag uint16, e []byte) {
		perm := uint32(binary.LittleEndian.Uint16(e[2:]))
		switch tag {
		case aclUserObj:
			user = perm
		case aclGroupObj:
			group = perm
		case aclMask:
			mask, hasMask = perm, true
		case aclOther:
			other = perm
		default:
			more++
		}
	})
	if hasMask {
		group = mask
	}
	o.attr.Mode = o.attr.Mode&^0o777 | user<<6 | group<<3 | other
	if o.dropXattr(accessACL); hasMask || more > 0 {
		o.setXattr(accessACL, value)
	}
}

// aclFollowsMode does to the access ACL what chmod(2) does.
func (o *object) aclFollowsMode() {
	was, ok := o.xattrs[accessACL]
	if !ok {
		return
	}
	acl, hasMask := []byte(was), false
	aclEntries(acl, func(tag uint16, _ []byte) { hasMask = hasMask || tag == aclMask })
	aclEntries(acl, func(tag uint16, e []byte) {
		shift := -1
		switch {
		case tag == aclUserObj:
			shift = 6
		case tag == aclMask, tag == aclGroupObj && !hasMask:
			shift = 3
		case tag == aclOther:
			shift = 0
		}
		if shift >= 0 {
			binary.LittleEndian.PutUint16(e[2:], uint16(o.attr.Mode>>shift&7))
		}
	})
	o.setXattr(accessACL, string(acl))
}
