package fanotify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// errDecode: what the kernel gave is not what fanotify(7) describes.
var errDecode = errors.New("fanotify event not understood")

// handle is a file handle as the kernel writes it: four bytes of type, native order, then
// the bytes that open_by_handle_at(2) takes. It is good until the buffer is read into
// again.
type handle []byte

func (h handle) file() unix.FileHandle {
	return unix.NewFileHandle(int32(binary.NativeEndian.Uint32(h)), h[4:])
}

// event is one event. dir and name tell where: the directory and the name in it, "" or
// "." for the directory itself. dir2 and name2 are the new place of a rename. obj is
// whom it happened to. What is not known is nil or "".
type event struct {
	mask        uint64
	pid         int32 // of the process, as seen from here; 0 in another pid namespace
	dir, dir2   handle
	name, name2 string
	obj         handle
}

// maxHandle is MAX_HANDLE_SZ of the kernel.
const maxHandle = 128

// Sizes of struct fanotify_event_metadata, of the header of an information record, and
// of what stands in a record before the handle's bytes: header, file system, length, type.
const (
	metadataLen = unix.FAN_EVENT_METADATA_LEN
	headerLen   = 4
	fidLen      = headerLen + 8 + 4 + 4
)

// decode takes the first event off b.
func decode(b []byte) (ev event, rest []byte, err error) {
	if len(b) < metadataLen {
		return ev, nil, fmt.Errorf("%w: %d bytes", errDecode, len(b))
	}
	n := int(binary.NativeEndian.Uint32(b))
	skip := int(binary.NativeEndian.Uint16(b[6:]))
	if v := b[4]; v != unix.FANOTIFY_METADATA_VERSION || skip < metadataLen || n < skip || n > len(b) {
		return ev, nil, fmt.Errorf("%w: version %d, length %d of %d", errDecode, v, n, len(b))
	}
	ev.mask = binary.NativeEndian.Uint64(b[8:])
	ev.pid = int32(binary.NativeEndian.Uint32(b[20:]))
	for info := b[skip:n]; len(info) > 0; {
		if info, err = ev.record(info); err != nil {
			return ev, nil, err
		}
	}
	return ev, b[n:], nil
}

// record takes the first information record off b.
func (ev *event) record(b []byte) (rest []byte, err error) {
	if len(b) < headerLen {
		return nil, fmt.Errorf("%w: record of %d bytes", errDecode, len(b))
	}
	kind, n := b[0], int(binary.NativeEndian.Uint16(b[2:]))
	if n < headerLen || n > len(b) {
		return nil, fmt.Errorf("%w: record %d of %d in %d bytes", errDecode, kind, n, len(b))
	}
	rec, rest := b[:n], b[n:]
	switch kind {
	case unix.FAN_EVENT_INFO_TYPE_FID:
		ev.obj, _, err = fid(rec)
	case unix.FAN_EVENT_INFO_TYPE_DFID, unix.FAN_EVENT_INFO_TYPE_DFID_NAME, unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME:
		ev.dir, ev.name, err = fid(rec)
	case unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME:
		ev.dir2, ev.name2, err = fid(rec)
	}
	return rest, err
}

// fid reads handle and name of a record.
func fid(rec []byte) (h handle, name string, err error) {
	if len(rec) < fidLen {
		return nil, "", fmt.Errorf("%w: handle in %d bytes", errDecode, len(rec))
	}
	n := binary.NativeEndian.Uint32(rec[headerLen+8:])
	if uint64(n) > uint64(len(rec)-fidLen) || n > maxHandle {
		return nil, "", fmt.Errorf("%w: handle of %d bytes in %d", errDecode, n, len(rec))
	}
	end := fidLen + int(n)
	raw, _, _ := bytes.Cut(rec[end:], []byte{0})
	if n == 0 { // an object the kernel has no handle of
		return nil, string(raw), nil
	}
	return handle(rec[fidLen-4 : end : end]), string(raw), nil
}

// itself reports that the event is about the directory, not a name in it.
func (ev *event) itself() bool { return ev.name == "" || ev.name == "." }
