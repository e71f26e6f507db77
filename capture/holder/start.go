package holder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Names of the holder's files in the data directory.
const (
	socketFile = "holder.sock"
	lockFile   = "holder.lock"
	logFile    = "holder.log"
	gapFile    = "holder.gap"
)

// maxLog bounds the holder's log: a longer one is begun anew.
const maxLog = 1 << 20

// at calls do with a path of name in dir that fits a socket address, however long the
// path of dir is.
func at(dir, name string, do func(path string) error) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	return do("/proc/self/fd/" + strconv.Itoa(fd) + "/" + name)
}

func dial(dir string) (conn *net.UnixConn, err error) {
	err = at(dir, socketFile, func(path string) error {
		conn, err = net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
		return err
	})
	return conn, err
}

// dialOrStart connects to the holder of a data directory; if there is none it starts
// one, once.
func dialOrStart(ctx context.Context, cfg Config) (*net.UnixConn, error) {
	started := false
	limit := time.Now().Add(startWait)
	for {
		conn, err := dial(cfg.Dir)
		if err == nil {
			return conn, nil
		}
		if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOENT) || time.Now().After(limit) {
			return nil, err
		}
		if !started {
			if err := start(cfg); err != nil {
				return nil, fmt.Errorf("start holder: %w", err)
			}
			started = true
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// start runs the holder detached: a session of its own, no terminal, / as its
// directory, nothing of this process's descriptors.
func start(cfg Config) error {
	argv := cfg.Command
	if len(argv) == 0 {
		argv = []string{"/proc/self/exe", "holder", "--data", cfg.Dir,
			"--hold-grace", cfg.Grace.String(), "--watchdog", cfg.Watchdog.String()}
	}
	out, err := openLog(cfg.Dir)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	if len(cfg.Command) == 0 {
		cmd.Args[0] = os.Args[0] // what process lists show, and programs of several names go by
	}
	cmd.Env = append(os.Environ(), cfg.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait() // it is our child until we die
	return nil
}

func openLog(dir string) (*os.File, error) {
	name := filepath.Join(dir, logFile)
	flags := os.O_CREATE | os.O_APPEND | os.O_WRONLY
	if st, err := os.Stat(name); err == nil && st.Size() > maxLog {
		flags |= os.O_TRUNC
	}
	return os.OpenFile(name, flags, 0o600)
}
