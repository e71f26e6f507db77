package fanotify

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// record makes an information record as the kernel does.
func record(kind byte, h []byte, name string) []byte {
	b := []byte{kind, 0, 0, 0}
	b = append(b, 1, 2, 3, 4, 5, 6, 7, 8)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(h)-4))
	b = append(b, h...)
	if name != "" {
		b = append(b, name+"\x00"...)
	}
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	binary.NativeEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

func message(mask uint64, pid uint32, records ...[]byte) []byte {
	b := make([]byte, metadataLen)
	b[4] = unix.FANOTIFY_METADATA_VERSION
	binary.NativeEndian.PutUint16(b[6:], metadataLen)
	binary.NativeEndian.PutUint64(b[8:], mask)
	binary.NativeEndian.PutUint32(b[20:], pid)
	for _, r := range records {
		b = append(b, r...)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

func sample() []byte {
	return append(message(unix.FAN_RENAME, 42,
		record(unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, []byte("\x01\x00\x00\x00old-dir!"), "from"),
		record(unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME, []byte("\x01\x00\x00\x00new-dir!"), "to"),
		record(unix.FAN_EVENT_INFO_TYPE_FID, []byte("\x01\x00\x00\x00object-1"), "")),
		message(unix.FAN_MODIFY, 43, record(unix.FAN_EVENT_INFO_TYPE_DFID_NAME, []byte("\x02\x00\x00\x00a-dir"), "."))...)
}

func TestDecode(t *testing.T) {
	ev, rest, err := decode(sample())
	if err != nil || ev.mask != unix.FAN_RENAME || ev.pid != 42 || string(ev.dir[4:]) != "old-dir!" || ev.name != "from" ||
		string(ev.dir2[4:]) != "new-dir!" || ev.name2 != "to" || string(ev.obj[4:]) != "object-1" {
		t.Fatalf("%+v, %v", ev, err)
	}
	if h := ev.obj.file(); h.Type() != 1 || string(h.Bytes()) != "object-1" {
		t.Errorf("handle %d %q", h.Type(), h.Bytes())
	}
	ev, rest, err = decode(rest)
	if err != nil || !ev.itself() || string(ev.dir[4:]) != "a-dir" || len(rest) != 0 {
		t.Fatalf("%+v, %v", ev, err)
	}
}

// FuzzDecode (G9): any bytes are events or an error.
func FuzzDecode(f *testing.F) {
	f.Add(sample())
	f.Add(message(unix.FAN_Q_OVERFLOW, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			ev, rest, err := decode(b)
			if err != nil {
				if !errors.Is(err, errDecode) {
					t.Fatal(err)
				}
				return
			}
			if len(rest) >= len(b) {
				t.Fatal("no progress")
			}
			for _, h := range []handle{ev.dir, ev.dir2, ev.obj} {
				if h != nil && (len(h) <= 4 || len(h) > 4+maxHandle) {
					t.Fatalf("handle of %d bytes", len(h))
				}
			}
			b = rest
		}
	})
}
