package fsx

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Dirent is one name of a directory with what the directory itself knows of it.
type Dirent struct {
	Name string
	Ino  uint64
	Type uint8 // DT_*; DT_UNKNOWN on some file systems
}

// direntHeader is d_ino, d_off, d_reclen and d_type of a linux_dirent64.
const direntHeader = 19

// ReadDir lists the directory behind dirfd (an O_PATH descriptor will do) without "."
// and "..", in the file system's order.
func (a *At) ReadDir(dirfd int) ([]Dirent, error) {
	fd, err := a.Open(dirfd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var out []Dirent
	buf := make([]byte, 32<<10)
	for {
		n := 0
		err := a.call(StepReadDir, func() (err error) { n, err = unix.Getdents(fd, buf); return err })
		if err != nil || n == 0 {
			return out, err
		}
		out = parseDirents(out, buf[:n])
	}
}

func parseDirents(out []Dirent, b []byte) []Dirent {
	for len(b) >= direntHeader {
		size := int(binary.NativeEndian.Uint16(b[16:]))
		if size < direntHeader || size > len(b) {
			return out
		}
		name, _, _ := bytes.Cut(b[direntHeader:size], []byte{0})
		d := Dirent{Name: string(name), Ino: binary.NativeEndian.Uint64(b), Type: b[18]}
		if d.Name != "." && d.Name != ".." && d.Ino != 0 {
			out = append(out, d)
		}
		b = b[size:]
	}
	return out
}

// MountID tells mounts apart: a rename works only inside one. 0 where the kernel does
// not say.
func MountID(fd int) uint64 {
	var sx unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &sx); err != nil {
		return 0
	}
	return sx.Mnt_id
}
