package stacked

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"understudy/capture"
	"understudy/capture/lower"
	"understudy/internal/mounts"
)

// fsType is the type mount tables show.
const fsType = "fuse.understudy"

// Errors of Mount that an operator can act on; capture.ErrBusy is the third.
var (
	// ErrUnsupported: this machine or user cannot mount FUSE over a directory.
	ErrUnsupported = errors.New("stacked capture needs root and /dev/fuse")
	// ErrRoot: the directory cannot be captured as a whole.
	ErrRoot = errors.New("the root directory cannot be captured, name the directories in it")
	// ErrNested: mounts below the directory would disappear from view.
	ErrNested = errors.New("file systems are mounted below the directory, protect them on their own")
)

// Defaults of Config.
const (
	// defaultTimeout of attributes and names in the kernel's cache: nothing changes the
	// directory behind the kernel's back, so it could be for ever.
	defaultTimeout = time.Hour
	// defaultLinger serves files still open after the mount was taken away.
	defaultLinger = 3 * time.Second
	// maxDefaultDescriptors is where more descriptors no longer save system calls worth
	// having: reopening one takes 3 us.
	maxDefaultDescriptors = 16384
)

// Config of one capture. The zero value has the defaults.
type Config struct {
	// MaxDescriptors bounds the O_PATH descriptors kept of objects the kernel knows but
	// nobody has open; 0: a quarter of RLIMIT_NOFILE, at most 16384.
	MaxDescriptors int
	// Timeout of names and attributes in the kernel's cache; 0: an hour.
	Timeout time.Duration
	// Linger is how long files still open are served after the mount was taken away;
	// 0: 3 s.
	Linger time.Duration
	// Foreign lists who holds descriptors below dir. It is called once, right before
	// the mount. Nil: nobody is listed.
	Foreign func(dir string) ([]capture.Foreign, error)
	// Keeper keeps the session, so that another process can go on with it if this one is
	// killed. Nil: it ends with this process.
	Keeper Keeper
}

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Linger == 0 {
		c.Linger = defaultLinger
	}
	if c.MaxDescriptors <= 0 {
		c.MaxDescriptors = maxDefaultDescriptors
		var lim unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err == nil {
			c.MaxDescriptors = int(min(lim.Cur/4, maxDefaultDescriptors))
		}
	}
	return c
}

// Capture is one directory under capture.
type Capture struct {
	root    string // absolute, without symbolic links
	cfg     Config
	log     *slog.Logger
	fs      *fileSystem
	device  *device
	resumed bool   // goes on with what another process began
	dev     uint32 // minor of the mount's device: the name of its connection in fusectl
	tree    *lower.Tree
	foreign []capture.Foreign
	ready   chan struct{} // closed by Run once requests are served
}

var _ capture.Backend = (*Capture)(nil)

// Mount opens dir and mounts over it. From its return on, whoever uses dir waits until
// Run serves. The error is capture.ErrBusy if dir is captured already, or one of this
// package's.
func Mount(dir string, cfg Config, log *slog.Logger) (*Capture, error) {
	cfg = cfg.withDefaults()
	root, err := checkRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("capture %s: %w", dir, err)
	}
	c := &Capture{root: root, cfg: cfg, log: log.With("path", root), ready: make(chan struct{})}
	if err := c.mount(); err != nil {
		return nil, fmt.Errorf("capture %s: %w", dir, err)
	}
	return c, nil
}

func (c *Capture) mount() error {
	low, err := openLower(c.root)
	if err != nil {
		return err
	}
	if c.fs, err = newFileSystem(low, c.cfg, c.log); err != nil {
		low.close()
		return err
	}
	c.tree = lower.New(low.root, c.fs.locks)
	if c.cfg.Foreign != nil {
		if c.foreign, err = c.cfg.Foreign(c.root); err != nil {
			c.log.Warn("holders of older descriptors not listed", "err", err)
		}
	}
	if err := c.serve(); err != nil {
		c.tree.Close()
		c.fs.close()
		return err
	}
	c.setReadAhead()
	return nil
}

// serve mounts and greets the kernel. On failure nothing stays mounted, and nothing
// that was mounted there before is touched.
func (c *Capture) serve() error {
	fd, err := mountOver(c.root)
	if err != nil {
		return err
	}
	c.device = newDevice(os.NewFile(uintptr(fd), "/dev/fuse"), c.fs, c.options(), c.log)
	hello, answer, err := c.device.greet()
	if err == nil {
		c.dev, err = ownDevice(c.root)
	}
	if err == nil {
		c.keep(hello, answer)
		_, err = unix.Write(fd, answer)
	}
	if err != nil {
		_ = c.letGo()
		unix.Unmount(c.root, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		c.device.file.Close()
	}
	return err
}

// checkRoot makes dir absolute and refuses what cannot be captured. It reads the mount
// table before it touches the path, so that a dead mount does not hang it.
func checkRoot(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("%w: user id is %d", ErrUnsupported, os.Geteuid())
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		return "", fmt.Errorf("%w: /dev/fuse: %w", ErrUnsupported, err)
	}
	table, err := mounts.Read()
	if err != nil {
		return "", err
	}
	if err := refuse(table, abs); err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", err
	}
	return real, refuse(table, real)
}

// refuse says why dir cannot be captured.
func refuse(m mounts.Table, dir string) error {
	if dir == "/" {
		return ErrRoot
	}
	if on := m.Containing(dir); on.FSType == fsType {
		return fmt.Errorf("%w: at %s", capture.ErrBusy, on.Point)
	}
	var nested []string
	for _, e := range m {
		if strings.HasPrefix(e.Point, dir+"/") {
			if e.FSType == fsType {
				return fmt.Errorf("%w: below it, at %s", capture.ErrBusy, e.Point)
			}
			nested = append(nested, e.Point)
		}
	}
	if len(nested) > 0 {
		return fmt.Errorf("%w: %s", ErrNested, strings.Join(nested, ", "))
	}
	return nil
}

// mountOver mounts a FUSE file system on dir and returns the connection's descriptor.
// No flag is set: nosuid or nodev would change what applications see.
func mountOver(dir string) (int, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("%w: open /dev/fuse: %w", ErrUnsupported, err)
	}
	opts := fmt.Sprintf("fd=%d,rootmode=%o,user_id=0,group_id=0,default_permissions,allow_other,max_read=%d",
		fd, unix.S_IFDIR, maxRequest)
	if err := unix.Mount("understudy", dir, fsType, unix.MS_MGC_VAL, opts); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) {
			err = fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
		return -1, fmt.Errorf("mount: %w", err)
	}
	return fd, nil
}

// maxRequest is the largest read or write in one request, the kernel's limit by default.
const maxRequest = 1 << 20

// maxInflight bounds the memory of requests being served; a write holds a buffer of
// maxRequest however small it is.
const maxInflight = 256 << 20

// maxBackground is the number of requests the kernel keeps under way that no process
// waits for: read-ahead and the write-back of mapped pages.
const maxBackground = 64

// options are the settings of capture.md 1.1: each keeps order or behaviour.
func (c *Capture) options() *fuse.MountOptions {
	return &fuse.MountOptions{
		Name: "understudy", FsName: "understudy",
		MaxWrite: maxRequest, MaxBackground: maxBackground, MaxInflightRequestBytes: maxInflight,
		EnableAcl: true, ExplicitDataCacheControl: true, EnableSymlinkCaching: true, DisableSplice: true,
		ExtraCapabilities: fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_DONT_MASK |
			fuse.CAP_SETXATTR_EXT | fuse.CAP_READDIRPLUS_AUTO,
		DisabledCapabilities: fuse.CAP_PASSTHROUGH | fuse.CAP_WRITEBACK_CACHE,
		Logger:               slog.NewLogLogger(c.log.Handler(), slog.LevelWarn),
		PanicHandler:         c.fs.panicked,
	}
}

// ownDevice finds the device minor of the mount just made on dir.
func ownDevice(dir string) (uint32, error) {
	m, err := mounts.Read()
	if err != nil {
		return 0, err
	}
	on := m.Containing(dir)
	if on.Point != dir || on.FSType != fsType {
		return 0, fmt.Errorf("mount on %s is not to be seen", dir)
	}
	return on.Minor, nil
}
