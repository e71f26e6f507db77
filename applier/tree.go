package applier

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// insideStage is the staging directory's name inside the target directory.
const insideStage = ".understudy"

// tree is one target directory, held by descriptor.
type tree struct {
	Root
	fd        int // of the target directory, readable
	parentFD  int // of its parent directory, or -1 if staging has to be inside
	stageName string
	stageFD   int // -1 while there is none
}

func openTree(r Root) (*tree, error) {
	if err := os.MkdirAll(r.Path, 0o755); err != nil {
		return nil, fmt.Errorf("open target directory %s: %w", r.Path, err)
	}
	fd, err := unix.Open(r.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open target directory %s: %w", r.Path, err)
	}
	t := &tree{Root: r, fd: fd, parentFD: -1, stageFD: -1}
	t.findParent()
	return t, nil
}

// findParent decides where staging goes: beside the target if that is the same mount
// and writable.
func (t *tree) findParent() {
	h := fnv.New32a()
	h.Write([]byte(t.Path))
	base := filepath.Base(t.Path)
	t.stageName = fmt.Sprintf(".understudy-%.100s-%08x", base, h.Sum32())
	fd, err := unix.Open(filepath.Dir(filepath.Clean(t.Path)), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	var st, pst unix.Stat_t
	same := unix.Fstat(t.fd, &st) == nil && unix.Fstat(fd, &pst) == nil && st.Dev == pst.Dev && st.Ino != pst.Ino &&
		fsx.MountID(t.fd) == fsx.MountID(fd)
	if !same || unix.Faccessat(fd, ".", unix.W_OK|unix.X_OK, 0) != nil {
		unix.Close(fd)
		return
	}
	t.parentFD = fd
}

// stage returns the staging directory, making it if needed. Inside the target, the root's
// modification time is kept through keep.
func (t *tree) stage(at *fsx.At, keep func() error) (int, error) {
	if t.stageFD >= 0 {
		return t.stageFD, nil
	}
	dir, name := t.parentFD, t.stageName
	if dir < 0 {
		dir, name = t.fd, insideStage
		if err := keep(); err != nil {
			return -1, err
		}
	}
	if err := at.Mkdir(dir, name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, fmt.Errorf("make staging directory: %w", err)
	}
	fd, err := at.Open(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, fmt.Errorf("open staging directory: %w", err)
	}
	t.stageFD = fd
	return fd, nil
}

// findStage opens a staging directory left by an earlier run, if there is one.
func (t *tree) findStage(at *fsx.At) error {
	dir, name := t.parentFD, t.stageName
	if dir < 0 {
		dir, name = t.fd, insideStage
	}
	fd, err := at.Open(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	switch {
	case err == nil:
		t.stageFD = fd
	case !errors.Is(err, unix.ENOENT): // it may hold content that a restart needs
		return fmt.Errorf("staging directory of %s: %w", t.Path, err)
	}
	return nil
}

// dropStage removes the staging directory if it is empty.
func (t *tree) dropStage(at *fsx.At, keep func() error) {
	if t.stageFD < 0 {
		return
	}
	dir, name := t.parentFD, t.stageName
	if dir < 0 {
		dir, name = t.fd, insideStage
		if left, err := at.ReadDir(t.stageFD); err != nil || len(left) > 0 || keep() != nil {
			return
		}
	}
	if at.Rmdir(dir, name) == nil {
		unix.Close(t.stageFD)
		t.stageFD = -1
	}
}

// hidden reports whether name in the directory id is the staging directory.
func (t *tree) hidden(id fileop.ObjID, name string) bool {
	return t.parentFD < 0 && id == t.Source && name == insideStage
}

func (t *tree) close() {
	for _, fd := range []int{t.fd, t.parentFD, t.stageFD} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
