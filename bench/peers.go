package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// server is a peer's process.
type server struct {
	cmd  *exec.Cmd
	gone chan struct{}
}

func startServer(dir, log string, name string, args ...string) (*server, error) {
	out, err := os.Create(filepath.Join(dir, log))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w; install the Debian package of %s", err, name)
	}
	s := &server{cmd: cmd, gone: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // ended by our signal
		close(s.gone)
	}()
	return s, nil
}

// stop ends the process and its children.
func (s *server) stop() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-s.gone:
	case <-time.After(5 * time.Second):
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.gone
	}
}

// rsyncDaemon serves one directory for writing.
type rsyncDaemon struct {
	*server
	url string
}

func startRsyncDaemon(ctx context.Context, dir, module string) (*rsyncDaemon, error) {
	l, err := net.Listen("tcp", "127.0.0.4:0")
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	config := filepath.Join(dir, "rsyncd.conf")
	text := fmt.Sprintf("use chroot = no\nuid = 0\ngid = 0\nread only = no\nlog file = /dev/null\nmax connections = 0\n[m]\npath = %s\n", module)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s, err := startServer(dir, "rsyncd.log", "rsync", "--daemon", "--no-detach", "--config="+config, "--address=127.0.0.4", fmt.Sprint("--port=", port))
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprint("127.0.0.4:", port)
	if err := s.waitPort(ctx, addr); err != nil {
		s.stop()
		return nil, err
	}
	return &rsyncDaemon{s, "rsync://" + addr + "/m/"}, nil
}

func (s *server) waitPort(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.gone:
			return errors.New("rsync daemon ended at once")
		case <-ctx.Done():
			return fmt.Errorf("rsync daemon does not answer: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// lsyncd follows a directory through an rsync daemon, tuned for speed: no delay (its
// default is 15 s), and files shipped when closed or modified.
type lsyncd struct {
	source, replica string
	rsync           *rsyncDaemon
	proc            *server
}

const lsyncdSettings = `settings { nodaemon = true, inotifyMode = "CloseWrite or Modify", insist = true }
sync { default.rsync, source = %q, target = %q, delay = 0, rsync = { archive = true } }
`

func (b *bench) startLsyncd(ctx context.Context, row string) (_ *lsyncd, err error) {
	dir := filepath.Join(b.dir, "lsyncd-"+row)
	p := &lsyncd{source: filepath.Join(dir, "source"), replica: filepath.Join(dir, "replica")}
	for _, d := range []string{p.source, p.replica} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	if p.rsync, err = startRsyncDaemon(ctx, dir, p.replica); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "lsyncd.conf")
	if err = os.WriteFile(config, fmt.Appendf(nil, lsyncdSettings, p.source, p.rsync.url), 0o600); err == nil {
		p.proc, err = startServer(dir, "lsyncd.log", "lsyncd", config)
	}
	if err == nil {
		err = p.waitFollows(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// waitFollows waits until a change goes through: then its first full pass is over.
func (p *lsyncd) waitFollows(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for i := 0; ; i++ {
		name := fmt.Sprintf("probe%d", i%2)
		if err := os.WriteFile(filepath.Join(p.source, name), []byte(name), 0o644); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("lsyncd does not follow")
		case <-p.proc.gone:
			return errors.New("lsyncd ended at once")
		case <-time.After(500 * time.Millisecond):
		}
		if fileSize(filepath.Join(p.replica, name)) > 0 {
			return nil
		}
	}
}

func (p *lsyncd) stop() error {
	if p.proc != nil {
		p.proc.stop()
	}
	if p.rsync != nil {
		p.rsync.stop()
	}
	return nil
}
