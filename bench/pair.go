package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"understudy/control"
)

// daemon is one understudy process.
type daemon struct {
	name string
	cmd  *exec.Cmd
	ctl  *control.Client
	gone chan struct{} // closed when the process has ended
	err  error         // how it ended; set before gone is closed
}

// pair is a source and a target.
type pair struct {
	dir            string
	source, target *daemon
	address        string // of the target
}

const (
	startTime = 20 * time.Second
	stopTime  = 20 * time.Second
)

// startPair starts two daemons that know each other, on addresses of their own.
func (b *bench) startPair(ctx context.Context, row string) (_ *pair, err error) {
	b.serial++
	p := &pair{dir: filepath.Join(b.dir, fmt.Sprintf("pair%d", b.serial))}
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop())
		}
	}()
	config := filepath.Join(p.dir, "settings.yml")
	if err := os.WriteFile(config, []byte("log_level: warn\n"), 0o600); err != nil {
		return nil, err
	}
	profile := func(name string) string {
		if b.profile == "" {
			return ""
		}
		return filepath.Join(b.profile, fmt.Sprintf("%s-%d-%s.pprof", row, b.serial, name))
	}
	if p.target, err = b.startDaemon(ctx, p.dir, "jersey", "127.0.0.3:0", config, profile("target")); err != nil {
		return nil, err
	}
	if p.address, err = localAddress(filepath.Join(p.dir, "jersey")); err != nil {
		return nil, err
	}
	if p.source, err = b.startDaemon(ctx, p.dir, "indy", "127.0.0.2:0", config, profile("source")); err != nil {
		return p, err
	}
	return p, p.pairUp(ctx)
}

// pairUp makes the machines known to each other, as an operator would.
func (p *pair) pairUp(ctx context.Context) error {
	var invite control.InviteReply
	if err := p.target.ctl.Call(ctx, "pair.invite", control.InviteRequest{}, &invite); err != nil {
		return err
	}
	return p.source.ctl.Call(ctx, "pair.join", control.JoinRequest{Address: p.address, Code: invite.Code}, nil)
}

// startDaemon starts one and waits until it answers.
func (b *bench) startDaemon(ctx context.Context, dir, name, listen, config, profile string) (*daemon, error) {
	data := filepath.Join(dir, name)
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(b.program, "daemon", "--name", name, "--data", data, "--listen", listen, "--config", config)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	if profile != "" {
		cmd.Env = append(os.Environ(), "UNDERSTUDY_CPUPROFILE="+profile)
	}
	// A signal to our group is for us; the daemons end when told to, or with us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &daemon{name: name, cmd: cmd, gone: make(chan struct{})}
	go func() {
		d.err = cmd.Wait()
		close(d.gone)
	}()
	return d, d.waitReady(ctx, data, log.Name())
}

func (d *daemon) waitReady(ctx context.Context, data, log string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := control.DialLocal(ctx, data)
		if err == nil {
			d.ctl = c
			return nil
		}
		select {
		case <-d.gone:
			text, _ := os.ReadFile(log)
			return fmt.Errorf("daemon %s ended at once: %w: %s", d.name, d.err, text)
		case <-ctx.Done():
			return fmt.Errorf("daemon %s does not answer: %w", d.name, err)
		case <-tick.C:
		}
	}
}

func (d *daemon) pid() int { return d.cmd.Process.Pid }

// stop ends the daemon in good order; one that hangs is killed.
func (d *daemon) stop() error {
	if d.ctl != nil {
		d.ctl.Close()
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // gone already: said below
	select {
	case <-d.gone:
		return wrap(d.err, "daemon "+d.name)
	case <-time.After(stopTime):
	}
	_ = d.cmd.Process.Kill()
	<-d.gone
	return fmt.Errorf("daemon %s did not stop within %v and was killed", d.name, stopTime)
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// stop ends both, the source first: its captures must not outlive it.
func (p *pair) stop() (err error) {
	if p.source != nil && p.source.cmd != nil {
		err = p.source.stop()
	}
	endMountsBelow(filepath.Dir(p.dir))
	if p.target != nil && p.target.cmd != nil {
		err = errors.Join(err, p.target.stop())
	}
	return err
}

// call asks the source's daemon.
func (p *pair) call(ctx context.Context, verb string, req, reply any) error {
	if err := p.source.ctl.Call(ctx, verb, req, reply); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

// mount captures dir in write order.
func (p *pair) mount(ctx context.Context, dir string) error {
	return p.call(ctx, "mount", control.DirRequest{Dir: dir}, nil)
}

// connect protects dir, which is mounted, at replica, and waits until the mirror is
// over.
func (p *pair) connect(ctx context.Context, dir, replica string) (id int, err error) {
	var reply control.ConnectReply
	err = p.call(ctx, "connect", control.ConnectRequest{Set: filepath.Base(dir), Rules: []string{fmt.Sprintf("%q inc, rec", dir)},
		Target: p.target.name, Address: p.address, Map: map[string]string{dir: replica}, Capture: "stacked"}, &reply)
	if err != nil {
		return 0, err
	}
	return reply.ID, p.settle(ctx, reply.ID)
}

// protect mounts and connects.
func (p *pair) protect(ctx context.Context, dir, replica string) (id int, err error) {
	if err := p.mount(ctx, dir); err != nil {
		return 0, err
	}
	return p.connect(ctx, dir, replica)
}

// settle waits until the target has everything.
func (p *pair) settle(ctx context.Context, id int) error {
	return p.call(ctx, "settle", control.SettleRequest{ID: id, TimeoutMS: (10 * time.Minute).Milliseconds()}, nil)
}

// status of one connection.
func (p *pair) status(ctx context.Context, id int) (control.Connection, error) {
	var st control.Status
	if err := p.call(ctx, "status", struct{}{}, &st); err != nil {
		return control.Connection{}, err
	}
	for _, c := range st.Connections {
		if c.ID == id {
			return c, nil
		}
	}
	return control.Connection{}, fmt.Errorf("no connection %d in the status of %s", id, st.Name)
}

// sentBytes is what the transmitter of a connection has put on the wire, overhead
// included.
func (p *pair) sentBytes(ctx context.Context, id int) (int64, error) {
	c, err := p.status(ctx, id)
	return c.SentBytes, err
}

// cpu is what both daemons have used, in seconds.
func (p *pair) cpu() (float64, error) {
	s, err := cpuSeconds(p.source.pid())
	if err != nil {
		return 0, err
	}
	t, err := cpuSeconds(p.target.pid())
	return s + t, err
}

// localAddress is where the daemon with that data directory listens.
func localAddress(data string) (string, error) {
	var l control.Local
	err := readJSON(filepath.Join(data, control.LocalFile), &l)
	return l.Address, err
}
