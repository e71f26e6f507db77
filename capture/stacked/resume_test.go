package stacked

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/capture/holder"
	"understudy/fileop"
	"understudy/internal/sametree"
	"understudy/internal/testfuse"
)

// serveSpec is a daemon that captures one directory and records.
type serveSpec struct {
	Dir  string // captured
	Data string // of the holder
	Log  string // record
	Step string // fail point at which it kills itself, "": none
	Nth  int    // time it comes there
}

func serveChild(raw string) error {
	var spec serveSpec
	if err := json.Unmarshal([]byte(raw), &spec); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	k, err := holder.Connect(ctx, holder.Config{Dir: spec.Data, Grace: 2 * time.Second, Watchdog: 2 * time.Second, Log: log})
	if err != nil {
		return err
	}
	held, err := Held(k)
	if err != nil {
		return err
	}
	var c *Capture
	cfg := Config{Keeper: k, Linger: 100 * time.Millisecond}
	if len(held) == 1 {
		c, err = Resume(held[0], cfg, log)
	} else {
		c, err = Mount(spec.Dir, cfg, log)
	}
	if err != nil {
		return err
	}
	rec, err := openRecLog(spec.Log)
	if err != nil {
		return err
	}
	c.Attach(rec)
	if spec.Step == "deaf" {
		failPoint = func(step string) {
			if step == "after answer" && rec.count().Load() > uint64(spec.Nth) {
				c.device.mu.Lock() // for ever: requests are read and never taken
			}
		}
	} else if left := spec.Nth; spec.Step != "" {
		steps := make(chan struct{}, 1)
		failPoint = func(step string) {
			if step != spec.Step {
				return
			}
			steps <- struct{}{}
			if left--; left <= 0 {
				unix.Kill(os.Getpid(), unix.SIGKILL)
				select {}
			}
			<-steps
		}
	}
	go func() {
		<-c.Ready()
		fmt.Println("ready")
	}()
	if err := c.Run(ctx); err != nil {
		return err
	}
	return k.End()
}

// survival is a captured directory, its daemons one after the other, and applications.
type survival struct {
	t       *testing.T
	spec    serveSpec
	cmd     *exec.Cmd
	log     *lockedBuffer
	rec     *recLog
	stop    string
	workers []*exec.Cmd
	outs    []*bytes.Buffer
	root    fileop.ObjID
}

func newSurvival(t *testing.T) *survival {
	t.Helper()
	testfuse.Need(t)
	dir := t.TempDir()
	s := &survival{t: t, spec: serveSpec{Dir: dir + "/live", Data: dir + "/data", Log: dir + "/record"}, stop: dir + "/stop"}
	must(t, os.Mkdir(s.spec.Dir, 0o755))
	must(t, os.Mkdir(s.spec.Data, 0o700))
	testfuse.Watchdog(t, s.spec.Dir, 10*time.Minute)
	s.root = identity(t, s.spec.Dir)
	var err error
	s.rec, err = openRecLog(s.spec.Log)
	must(t, err)
	t.Cleanup(s.end)
	return s
}

// end leaves nothing behind, whatever happened.
func (s *survival) end() {
	os.WriteFile(s.stop, nil, 0o600)
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	}
	testfuse.End(s.spec.Dir)
	for _, w := range s.workers {
		w.Process.Kill()
		w.Wait()
	}
	if k, err := holder.Connect(context.Background(), holder.Config{Dir: s.spec.Data}); err == nil {
		k.End()
	}
	if s.t.Failed() {
		b, _ := os.ReadFile(s.spec.Data + "/holder.log")
		s.t.Logf("last daemon:\n%s\nholder:\n%s", tail(s.log.String()), tail(string(b)))
	}
}

// troubles shows what the daemons complained of.
func (s *survival) troubles() {
	if s.log == nil {
		return
	}
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, "level=ERROR") {
			s.t.Logf("daemon: %s", strings.TrimSpace(line))
		}
	}
}

func tail(s string) string { return s[max(0, len(s)-4000):] }

func child(what string, spec any) *exec.Cmd {
	raw, _ := json.Marshal(spec)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childVar+"="+what+":"+string(raw))
	cmd.Dir = "/"
	return cmd
}

// serve starts a daemon; wait: until it serves.
func (s *survival) serve(step string, nth int, wait bool) {
	s.t.Helper()
	spec := s.spec
	spec.Step, spec.Nth = step, nth
	s.troubles()
	s.cmd, s.log = child("serve", spec), &lockedBuffer{}
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	must(s.t, err)
	must(s.t, s.cmd.Start())
	ready := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(out).ReadString('\n')
		ready <- err
		io.Copy(io.Discard, out)
	}()
	if !wait {
		return
	}
	select {
	case err := <-ready:
		if err != nil && step == "" {
			s.cmd.Wait()
			s.t.Fatalf("daemon does not serve: %v\n%s", err, s.log)
		}
	case <-time.After(deadline):
		s.t.Fatalf("daemon does not serve within %v", deadline)
	}
}

func (s *survival) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// dies waits until the daemon has died by itself, with a deadline.
func (s *survival) dies() error {
	s.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- s.cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(deadline):
		s.cmd.Process.Kill()
		<-ended
		for _, o := range s.outs {
			s.t.Log(o.String())
		}
		s.t.Fatalf("daemon lives on after %v", deadline)
		return nil
	}
}

// work starts an application.
func (s *survival) work(seed uint64) {
	cmd := child("work", workSpec{Dir: fmt.Sprintf("%s/w%d", s.spec.Dir, seed), Stop: s.stop, Seed: seed})
	out := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	must(s.t, cmd.Start())
	s.workers, s.outs = append(s.workers, cmd), append(s.outs, out)
}

// progress waits until so many more operations are recorded, or the daemon has ended.
func (s *survival) progress(ops uint64) {
	s.t.Helper()
	want := s.rec.count().Load() + ops
	limit := time.Now().Add(deadline)
	for s.rec.count().Load() < want {
		if time.Now().After(limit) {
			for _, o := range s.outs {
				s.t.Log(o.String())
			}
			s.t.Fatalf("no progress: %d of %d operations", s.rec.count().Load(), want)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// finish ends the applications, which must have seen no error, then the daemon, and
// compares the record with the directory.
func (s *survival) finish() {
	s.t.Helper()
	must(s.t, os.WriteFile(s.stop, nil, 0o600))
	for i, w := range s.workers {
		if err := w.Wait(); err != nil {
			s.t.Errorf("application %d: %v: %s", i, err, s.outs[i])
		} else {
			s.t.Logf("application %d: %s", i, strings.TrimSpace(s.outs[i].String()))
		}
	}
	s.workers = nil
	must(s.t, s.cmd.Process.Signal(syscall.SIGTERM))
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("daemon: %v\n%s", err, s.log)
	}
	s.troubles()
	m, doubled, unknown, err := s.rec.replay(s.root)
	if err != nil {
		s.t.Errorf("record: %v", err)
	}
	if len(doubled) > 0 {
		s.t.Errorf("%d operations doubled: %q", len(doubled), doubled[:min(5, len(doubled))])
	}
	if len(unknown) > 0 {
		s.t.Errorf("%d operations on objects nobody had created: %q", len(unknown), unknown[:min(5, len(unknown))])
	}
	have, err := sametree.Snapshot(s.spec.Dir)
	must(s.t, err)
	sametree.CheckTrees(s.t, have, m.Snapshot(), sametree.Options{NoRoot: true})
	s.t.Logf("%d operations recorded, %d paths", s.rec.count().Load(), len(have.Paths()))
}

// kills is how many kills of a kind there are.
func kills(short, long int) int {
	if os.Getenv("UNDERSTUDY_LONG") != "" {
		return long
	}
	return short
}

// TestSessionOutlivesTheDaemon: applications see no error and no operation is lost or
// doubled while the process that serves them is killed at random moments.
func TestSessionOutlivesTheDaemon(t *testing.T) {
	s := newSurvival(t)
	s.serve("", 0, true)
	seed := uint64(time.Now().UnixNano() % 1e9)
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range uint64(3) {
		s.work(seed + i)
	}
	for range kills(20, 500) {
		if r.IntN(4) == 0 {
			time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond) // perhaps while it resumes
		} else {
			s.progress(uint64(r.IntN(400)))
		}
		s.kill()
		s.serve("", 0, false)
	}
	s.progress(200)
	s.finish()
}

// TestEveryStepSurvives kills at each step of the life of a request that must not be
// done twice, and again at the same step of the resumed one.
func TestEveryStepSurvives(t *testing.T) {
	s := newSurvival(t)
	s.serve("", 0, true)
	seed := uint64(time.Now().UnixNano() % 1e9)
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	for i := range uint64(2) {
		s.work(seed + i)
	}
	s.progress(50)
	s.kill()
	for range kills(3, 60) {
		for _, step := range []string{"before intent", "after intent", "after call", "after put", "after emit", "before answer", "after answer"} {
			s.serve(step, 1+r.IntN(30), false)
			if err := s.dies(); err == nil {
				t.Fatalf("daemon did not die at %s", step)
			}
		}
	}
	s.serve("", 0, true)
	s.progress(200)
	s.finish()
}

// TestHolderKilled: the daemon starts another holder, and a kill of the daemon is
// survived as before.
func TestHolderKilled(t *testing.T) {
	s := newSurvival(t)
	s.serve("", 0, true)
	s.work(1)
	s.progress(100)
	for range 3 {
		old := s.holderPID()
		must(t, unix.Kill(old, unix.SIGKILL))
		until(t, "another holder runs", func() bool {
			pid := s.holderPID()
			b, _ := os.ReadFile(s.spec.Data + "/holder.log")
			return pid != 0 && pid != old && strings.Contains(string(b), fmt.Sprintf("holder runs\" pid=%d", pid)) &&
				strings.Contains(s.log.String(), "handed over to a new holder")
		})
		s.progress(50)
		s.kill()
		s.serve("", 0, true)
		s.progress(50)
	}
	s.finish()
}

// holderPID is the process that holds the lock, 0 if none does.
func (s *survival) holderPID() int {
	all, _ := os.ReadDir("/proc")
	for _, p := range all {
		b, _ := os.ReadFile("/proc/" + p.Name() + "/cmdline")
		args := strings.Split(string(b), "\x00")
		if len(args) > 3 && args[1] == "holder" && args[3] == s.spec.Data {
			pid := 0
			fmt.Sscan(p.Name(), &pid)
			return pid
		}
	}
	return 0
}

// TestDirectoryIsGivenBack: if no daemon comes back, applications meet the native
// directory, nobody hangs, and the gap is written down.
func TestDirectoryIsGivenBack(t *testing.T) {
	s := newSurvival(t)
	s.serve("", 0, true)
	must(t, os.WriteFile(s.spec.Dir+"/before", []byte("x"), 0o600))
	s.work(1)
	s.progress(50)
	s.kill()
	ended := make(chan error, 1)
	go func() { ended <- s.workers[0].Wait() }()
	select {
	case err := <-ended: // its files are open through the mount that is gone
		if err == nil {
			t.Error("the application saw no error")
		}
	case <-time.After(deadline):
		t.Fatal("application hangs")
	}
	s.workers = nil
	until(t, "holder has ended", func() bool { return s.holderPID() == 0 })
	if b, err := os.ReadFile(s.spec.Dir + "/before"); err != nil || string(b) != "x" {
		t.Errorf("native directory: %q, %v", b, err)
	}
	gap, ok, err := holder.ReadGap(s.spec.Data)
	if !ok || err != nil || len(gap.Roots) != 1 || gap.Roots[0] != s.spec.Dir {
		t.Errorf("gap %+v, %v, %v", gap, ok, err)
	}
	s.serve("", 0, true) // captures anew
	must(t, os.WriteFile(s.spec.Dir+"/after", nil, 0o600))
	s.progress(0)
	s.kill()
}

// TestDeafDaemonIsEnded: one that gives signs of life, but takes no request although
// some wait, is killed too.
func TestDeafDaemonIsEnded(t *testing.T) {
	s := newSurvival(t)
	s.serve("deaf", 50, true)
	for i := range uint64(3) { // what was answered last counts as being served
		s.work(i)
	}
	err := s.dies()
	if ws, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		t.Errorf("deaf daemon ended with %v", err)
	}
	if b, _ := os.ReadFile(s.spec.Data + "/holder.log"); !strings.Contains(string(b), "none is taken") {
		t.Errorf("holder says: %s", tail(string(b)))
	}
	s.serve("", 0, true)
	s.progress(50)
	s.finish()
}

// TestHungDaemonIsEnded: one that stops taking requests is killed, and the next one
// goes on without an error.
func TestHungDaemonIsEnded(t *testing.T) {
	s := newSurvival(t)
	s.serve("", 0, true)
	s.work(1)
	s.progress(50)
	must(t, s.cmd.Process.Signal(syscall.SIGSTOP))
	err := s.dies()
	if ws, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		t.Errorf("hung daemon ended with %v", err)
	}
	s.serve("", 0, true)
	s.progress(50)
	s.finish()
}

// lockedBuffer is written by the child's reader while the test looks.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
