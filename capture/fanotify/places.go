package fanotify

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxPlaces bounds the directories, and the files elsewhere, that are remembered: some
// 150 bytes each. When it is reached all are forgotten; finding one again costs 5 us.
const maxPlaces = 1 << 16

// place is a directory as one capture sees it.
type place struct {
	b   *Backend
	rel string // its path relative to the root
}

// places remembers what handles stand for. The zero value is empty.
type places struct {
	of     map[string][]place  // by handle of a directory; nil: below no root
	single map[string]struct{} // handles of files with one name, below no root or not below all
}

// forget drops everything: a directory was renamed, and all paths below it with it, or
// events were lost.
func (p *places) forget() { p.of, p.single = nil, nil }

func (p *places) set(h handle, at []place) {
	if p.of == nil || len(p.of) >= maxPlaces {
		p.of = map[string][]place{}
	}
	p.of[string(h)] = at
}

func (p *places) setSingle(h handle) {
	if p.single == nil || len(p.single) >= maxPlaces {
		p.single = map[string]struct{}{}
	}
	p.single[string(h)] = struct{}{}
}

// errGone: no object has this handle any more, or it has no name.
var errGone = errors.New("object is gone")

// at finds out which roots the directory is below, as of now. It may be another place
// than at the time of the event; then the event that tells so is still to come. A
// directory that is gone is below none: its removal is an event of its own.
func (g *group) at(h handle) []place {
	if h == nil {
		return nil
	}
	if at, ok := g.places.of[string(h)]; ok {
		return at
	}
	at, err := g.resolve(h)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		g.lose(err)
		return nil
	}
	g.places.set(h, at)
	return at
}

func (g *group) resolve(h handle) ([]place, error) {
	fd, err := g.open(h)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var at []place
	for _, b := range g.members {
		rel, err := relative(b.rootFD, fd)
		if errors.Is(err, errOutside) {
			continue
		}
		if err != nil {
			return nil, err
		}
		at = append(at, place{b, rel})
	}
	return at, nil
}

// The kernel says ENOMEM while the inode number of a removed object is being given to a
// new one (find_inode_fast, I_CREATING): some microseconds, unless the creator has lost
// its processor.
const (
	busyTries = 50
	busyWait  = time.Millisecond
)

// open opens what h stands for with O_PATH.
func (g *group) open(h handle) (int, error) {
	for try := 0; ; try++ {
		fd, err := unix.OpenByHandleAt(g.mount, h.file(), unix.O_PATH|unix.O_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOMEM) && try < busyTries:
			time.Sleep(busyWait)
			continue
		case errors.Is(err, unix.ESTALE), errors.Is(err, unix.ENOENT):
			return -1, fmt.Errorf("%w: %w", errGone, err)
		case err != nil:
			return -1, fmt.Errorf("open by handle: %w", err)
		}
		return fd, nil
	}
}

var errOutside = errors.New("not below the root")

// relative is the path of the directory fd below root. Both paths are asked of the
// kernel in the same mount, so it does not matter what is mounted over them.
func relative(root, fd int) (string, error) {
	for range 10 { // the root may be moved between the questions
		before, err := pathOf(root)
		if err != nil {
			return "", err
		}
		p, err := pathOf(fd)
		if err != nil {
			return "", err
		}
		after, err := pathOf(root)
		if err != nil {
			return "", err
		}
		if before != after {
			continue
		}
		if p == before {
			return "", sameObject(root, fd)
		}
		if rel, ok := strings.CutPrefix(p, strings.TrimSuffix(before, "/")+"/"); ok {
			return rel, nil
		}
		return "", errOutside
	}
	return "", errors.New("root directory is being moved")
}

// sameObject is errOutside unless both descriptors are of one object. In a copy of a mount
// that shows only a part of its file system, as beneath a stacked mount, the kernel calls
// the root "/", and everything outside of it as well.
func sameObject(a, b int) error {
	var sa, sb unix.Stat_t
	if err := errors.Join(unix.Fstat(a, &sa), unix.Fstat(b, &sb)); err != nil {
		return fmt.Errorf("compare with root directory: %w", err)
	}
	if sa.Dev != sb.Dev || sa.Ino != sb.Ino {
		return errOutside
	}
	return nil
}

// deletedMark is what the kernel puts behind the path of an object without a name.
const deletedMark = " (deleted)"

// pathOf is the kernel's path of a directory.
func pathOf(fd int) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd), buf[:])
	if err != nil {
		return "", fmt.Errorf("path of directory: %w", err)
	}
	p := string(buf[:n])
	if strings.HasSuffix(p, deletedMark) {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Nlink == 0 {
			return "", errGone
		}
	}
	return p, nil
}
