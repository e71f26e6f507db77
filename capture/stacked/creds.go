package stacked

import (
	"fmt"
	"runtime"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// capabilities are this process's own, as capset(2) takes them.
type capabilities [2]unix.CapUserData

func ownCapabilities() (capabilities, error) {
	var c capabilities
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&hdr, &c[0]); err != nil {
		return c, fmt.Errorf("read capabilities: %w", err)
	}
	return c, nil
}

// as runs call, which creates an object, with the caller's user and group for the file
// system, so that owner, group (set-group-ID directories, grpid mounts) and quotas come
// out as natively. The kernel above has checked permissions, so this thread keeps all
// its capabilities; setfsuid(2) takes some, capset gives them back.
func (c *capabilities) as(o fuse.Owner, call func() (int, error)) (int, error) {
	if o.Uid == 0 && o.Gid == 0 {
		return noEINTR(call)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer unix.Setfsgid(0) // cannot fail: back to what the process is
	defer unix.Setfsuid(0) // raises the capabilities again, should capset have failed
	if err := c.become(o); err != nil {
		return -1, err
	}
	return noEINTR(call)
}

func (c *capabilities) become(o fuse.Owner) error {
	if err := unix.Setfsgid(int(o.Gid)); err != nil {
		return err
	}
	if err := unix.Setfsuid(int(o.Uid)); err != nil {
		return err
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := *c
	return unix.Capset(&hdr, &data[0])
}
