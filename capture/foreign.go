package capture

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxForeign bounds the list ForeignHolders returns.
const maxForeign = 1024

// ForeignHolders lists the processes that hold files or directories below root, of
// the file system the root is on now, by a descriptor or as working directory; one
// entry per process and path. Called before a capture is mounted over root, these are
// the ones that will write past it. Path is the kernel's, with " (deleted)" behind it
// if the name is gone. Write is true for a descriptor open for writing; a directory,
// too, lets its holder write what it opens relative to it.
//
// Without root only processes of the same user are seen; the error then is nil all
// the same. Descriptors through another mount of the same directory (a bind mount, a
// container) have another path and are not found, nor are shared mappings whose
// descriptor was closed. At most maxForeign entries are returned. It reads all of
// /proc: some 4 ms with 85 processes.
func ForeignHolders(root string) ([]Foreign, error) {
	abs, err := filepath.Abs(root)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	var st unix.Stat_t
	if err == nil {
		err = unix.Stat(abs, &st)
	}
	if err != nil {
		return nil, fmt.Errorf("list processes that use %q: %w", root, err)
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes that use %q: %w", root, err)
	}
	var out []Foreign
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		held, err := heldBy(pid, abs, st.Dev)
		if err != nil && !unseen(err) {
			return out, fmt.Errorf("list processes that use %q: %w", root, err)
		}
		if out = append(out, held...); len(out) >= maxForeign {
			return out[:maxForeign], nil
		}
	}
	return out, nil
}

// unseen: the process or descriptor has ended, or is another user's.
func unseen(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrPermission)
}

// heldBy lists what one process holds; several descriptors of a path are one entry.
func heldBy(pid int, root string, dev uint64) ([]Foreign, error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	f, err := os.Open(dir + "fd")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fds, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	links := []string{"cwd"}
	for _, fd := range fds {
		links = append(links, "fd/"+fd)
	}
	at := map[string]int{} // index in out
	var out []Foreign
	for _, link := range links {
		path, err := os.Readlink(dir + link)
		if err != nil || !below(path, root) || !onDevice(dir+link, dev) {
			continue
		}
		i, known := at[path]
		if !known {
			if len(out) >= maxForeign {
				break
			}
			i, at[path] = len(out), len(out)
			out = append(out, Foreign{PID: pid, Command: command(pid), Path: path})
		}
		if fd, ok := strings.CutPrefix(link, "fd/"); ok {
			out[i].Write = out[i].Write || opensForWriting(pid, fd)
		}
	}
	return out, nil
}

func below(path, root string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/"))
	return ok && (rest == "" || rest[0] == '/' || rest == " (deleted)")
}

// onDevice asks the cache only, so that no hung network or FUSE server is waited for.
func onDevice(link string, dev uint64) bool {
	var sx unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, link, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &sx)
	return err == nil && unix.Mkdev(sx.Dev_major, sx.Dev_minor) == dev
}

// command is the process's name as ps(1) shows it, at most 15 bytes.
func command(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return string(bytes.TrimSuffix(b, []byte("\n")))
}

// opensForWriting reads the access mode from fdinfo ("flags:" in octal, proc(5)).
func opensForWriting(pid int, fd string) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if octal, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseUint(strings.TrimSpace(octal), 8, 64)
			mode := flags & unix.O_ACCMODE
			return err == nil && flags&unix.O_PATH == 0 && (mode == unix.O_WRONLY || mode == unix.O_RDWR)
		}
	}
	return false
}
