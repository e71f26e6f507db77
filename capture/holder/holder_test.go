package holder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roleVar makes the test program a holder or a daemon in a process of its own: the
// role, a colon, and the data directory.
const roleVar = "UNDERSTUDY_TEST_ROLE"

// Times of the holders of these tests.
const (
	testGrace    = 3 * time.Second
	testWatchdog = 2 * time.Second
	deadline     = 30 * time.Second
)

func TestMain(m *testing.M) {
	role, dir, _ := strings.Cut(os.Getenv(roleVar), ":")
	var err error
	switch role {
	case "":
		os.Exit(m.Run())
	case "holder":
		err = Serve(context.Background(), Config{Dir: dir, Grace: testGrace, Watchdog: testWatchdog,
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	case "daemon":
		err = daemon(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func config(dir string) Config {
	return Config{Dir: dir, Grace: testGrace, Watchdog: testWatchdog, Command: []string{"/proc/self/exe"},
		Env: []string{roleVar + "=holder:" + dir}}
}

// daemon keeps a file with content that has no name any more, hands another one over,
// says so, and waits to be killed.
func daemon(dir string) error {
	c, err := Connect(context.Background(), config(dir))
	if err != nil {
		return err
	}
	kept, err := nameless(dir, "kept")
	if err != nil {
		return err
	}
	if err := c.Keep("one", []byte("meta"), kept, kept); err != nil {
		return err
	}
	handed, err := nameless(dir, "handed")
	if err != nil {
		return err
	}
	if err := c.Hand("two", int(handed.Fd())); err != nil {
		return err
	}
	fmt.Println("ready")
	select {}
}

func nameless(dir, content string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "")
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(content)
	return f, errors.Join(err, os.Remove(f.Name()))
}

// startDaemon returns once the child is ready.
func startDaemon(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVar+"=daemon:"+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line := make([]byte, 6)
	if _, err := out.Read(line); err != nil || string(line) != "ready\n" {
		t.Fatalf("daemon says %q, %v", line, err)
	}
	return cmd
}

func connect(t *testing.T, dir string) *Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	cfg := config(dir)
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	c, err := Connect(ctx, cfg)
	must(t, err)
	t.Cleanup(func() { c.End() })
	return c
}

// holderPID finds the process that holds the lock of a data directory.
func holderPID(t *testing.T, dir string) int {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/environ")
	must(t, err)
	for _, p := range procs {
		env, err := os.ReadFile(p)
		if err == nil && slices.Contains(strings.Split(string(env), "\x00"), roleVar+"=holder:"+dir) {
			pid, err := strconv.Atoi(strings.Split(p, "/")[2])
			must(t, err)
			return pid
		}
	}
	return 0
}

func content(t *testing.T, f *os.File) string {
	t.Helper()
	b := make([]byte, 100)
	n, err := f.ReadAt(b, 0)
	if n == 0 {
		t.Errorf("read what was held: %v", err)
	}
	return string(b[:n])
}

func TestWhatIsHeldOutlivesTheDaemon(t *testing.T) {
	dir := t.TempDir() + "/" + strings.Repeat("long", 40) // longer than a socket's address
	must(t, os.Mkdir(dir, 0o700))
	d := startDaemon(t, dir)
	must(t, d.Process.Kill())
	c := connect(t, dir)
	names, err := c.Names()
	must(t, err)
	if !slices.Equal(names, []string{"one", "two"}) {
		t.Errorf("held: %q", names)
	}
	meta, files, err := c.Take("one")
	must(t, err)
	if string(meta) != "meta" || len(files) != 2 || content(t, files[1]) != "kept" {
		t.Errorf("taken: meta %q, %d files", meta, len(files))
	}
	if _, files, err = c.Take("two"); err != nil || len(files) != 1 || content(t, files[0]) != "handed" {
		t.Errorf("handed over: %d files, %v", len(files), err)
	}
	must(t, c.Drop("one"))
	if _, _, err := c.Take("one"); !errors.Is(err, ErrNotHeld) {
		t.Errorf("after drop: %v", err)
	}
}

func TestKilledHolderIsReplaced(t *testing.T) {
	dir := t.TempDir()
	c := connect(t, dir)
	f, err := nameless(dir, "again")
	must(t, err)
	must(t, c.Keep("item", nil, f))
	must(t, c.Hand("other", int(f.Fd())))
	for range 3 {
		old := holderPID(t, dir)
		must(t, syscall.Kill(old, syscall.SIGKILL))
		until(t, "another holder has it", func() bool {
			names, err := c.Names()
			return err == nil && len(names) == 2 && holderPID(t, dir) != old
		})
	}
	_, files, err := c.Take("item")
	must(t, err)
	if content(t, files[0]) != "again" {
		t.Error("content differs")
	}
}

func TestNextDaemonWaitsForTheOneBefore(t *testing.T) {
	dir := t.TempDir()
	first := connect(t, dir)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := Connect(ctx, config(dir)); !errors.Is(err, ErrBusy) {
		t.Errorf("second daemon: %v", err)
	}
	must(t, first.Keep("x", nil))
	must(t, first.Close())
	second := connect(t, dir)
	if names, err := second.Names(); err != nil || len(names) != 1 {
		t.Errorf("after close: %q, %v", names, err)
	}
}

func TestHungDaemonIsKilled(t *testing.T) {
	dir := t.TempDir()
	d := startDaemon(t, dir)
	must(t, d.Process.Signal(syscall.SIGSTOP))
	c := connect(t, dir) // waits until it is dead
	if !strings.Contains(c.Note(), "no sign of life") {
		t.Errorf("note: %q", c.Note())
	}
	var ws syscall.WaitStatus
	if err := d.Wait(); err != nil {
		ws = d.ProcessState.Sys().(syscall.WaitStatus)
	}
	if ws.Signal() != syscall.SIGKILL {
		t.Errorf("daemon ended with %v", ws)
	}
}

func TestHolderEnds(t *testing.T) {
	dir := t.TempDir()
	c := connect(t, dir)
	must(t, c.Keep("x", nil))
	must(t, c.End())
	gone := func() bool { return holderPID(t, dir) == 0 }
	until(t, "holder ended with its daemon", gone)
	if _, ok, _ := ReadGap(dir); ok {
		t.Error("a gap after a good end")
	}
	startDaemon(t, dir).Process.Kill()
	until(t, "holder ended without a daemon", gone)
}

func TestLimits(t *testing.T) {
	dir := t.TempDir()
	c := connect(t, dir)
	if err := c.Keep("big", make([]byte, MaxMeta+1)); !errors.Is(err, ErrTooMuch) {
		t.Errorf("big meta: %v", err)
	}
	if err := c.Keep(strings.Repeat("n", maxName+1), nil); !errors.Is(err, ErrTooMuch) {
		t.Errorf("long name: %v", err)
	}
	f, err := nameless(dir, "x")
	must(t, err)
	must(t, c.Keep("most", make([]byte, MaxMeta), slices.Repeat([]*os.File{f}, maxFiles)...))
	if err := c.Keep("many", nil, slices.Repeat([]*os.File{f}, maxFiles+1)...); !errors.Is(err, ErrTooMuch) {
		t.Errorf("many files: %v", err)
	}
	for i := range 3000 {
		must(t, c.Hand(fmt.Sprintf("%s/%04d", strings.Repeat("n", 100), i), int(f.Fd())))
	}
	if names, err := c.Names(); err != nil || len(names) != 3001 {
		t.Errorf("%d names, %v", len(names), err)
	}
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(dir, socketFile), &st))
	if st.Mode&0o777 != 0o600 {
		t.Errorf("mode of the socket is %o", st.Mode)
	}
}

// until waits for a state.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(deadline); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not within %v: %s", deadline, what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
