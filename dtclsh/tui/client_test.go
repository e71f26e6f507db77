package tui

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"understudy/control"
	"understudy/dtclsh/interp"
	"understudy/internal/testterm"
)

// machine stands for a daemon.
type machine struct {
	mu     sync.Mutex
	name   string
	down   bool
	hang   bool // it takes requests and does not answer
	status control.Status
	events []control.Event
	settle chan struct{} // closed: WAITONMIRROR is over
}

var errDown = &control.Error{Code: control.Unreachable, Msg: "no daemon runs on /none"}

// talk is a connection to it.
type talk struct{ m *machine }

func (m *machine) dial(ctx context.Context, _ string) (interp.Client, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return nil, errDown
	}
	return talk{m}, nil
}

func (t talk) Node() string { return t.m.name }
func (t talk) Close()       {}
func (t talk) Alive() bool  { t.m.mu.Lock(); defer t.m.mu.Unlock(); return !t.m.down }

func (t talk) Call(ctx context.Context, verb string, req, reply any) error {
	t.m.mu.Lock()
	down, hang, status, events, settle := t.m.down, t.m.hang, t.m.status, slices.Clone(t.m.events), t.m.settle
	t.m.mu.Unlock()
	var out any
	switch {
	case down:
		return errDown
	case hang:
		<-ctx.Done()
		return context.Cause(ctx)
	case verb == "status":
		out = status
	case verb == "settle":
		select {
		case <-settle:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		out = struct{}{}
	case verb == "events":
		r := req.(control.EventsRequest)
		got := slices.DeleteFunc(slices.Clone(events), func(e control.Event) bool { return e.Seq <= r.Since })
		if len(got) == 0 && r.WaitMS > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
		out = control.Events{Events: got, Last: uint64(len(events))}
	case verb == "repset.list":
		out = control.RepsetList{}
	case verb == "machine.list":
		out = control.MachineList{Machines: []control.Machine{{Name: "jersey", Address: "127.0.0.3:6320"}}}
	default:
		return &control.Error{Code: control.Internal, Msg: verb}
	}
	raw, err := json.Marshal(out)
	if err == nil && reply != nil {
		err = json.Unmarshal(raw, reply)
	}
	return err
}

func (m *machine) set(f func(m *machine)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}

func newMachine() *machine {
	return &machine{name: "indy", settle: make(chan struct{}), status: control.Status{Name: "indy", Version: "1.2.3", Connections: []control.Connection{
		{ID: 1, Set: "tree", Target: "jersey", Transmit: "Started", Mirror: "Mirroring", MirrorPercent: 40, Replication: "Replicating", QueuedOps: 12, SentBytes: 3 << 20, TargetState: "OK"},
		{ID: 2, Set: "mail", Target: "jersey", Transmit: "Paused", Mirror: "Idle", Replication: "Replicating", TargetState: "OK"},
		{ID: 3, Set: "tree", Target: "dover", Transmit: "Error", Mirror: "Remirror required", Replication: "Stopped", TargetState: "Unreachable", LastError: "no route to host"},
	}}}
}

// screen is a client on a terminal, in this process.
type screen struct {
	*testterm.Terminal
	client *Client
	in     *interp.Interp
	stop   context.CancelFunc
	over   chan error
}

func newScreen(t *testing.T, m *machine, cols, rows int) *screen {
	t.Helper()
	s := &screen{Terminal: testterm.New(t, cols, rows), over: make(chan error, 1)}
	s.client = New(Config{In: s.Line, Out: s.Line, Env: []string{"TERM=xterm", "NO_COLOR=1"}, Dial: m.dial, LogFile: filepath.Join(t.TempDir(), "dir", "log")})
	s.in = interp.New(interp.Config{Dial: m.dial, Out: s.client.Answers(), Err: s.client.Troubles(), Interactive: true, Progress: s.client.Progress,
		Login: func(ctx context.Context, address, user, password string, given bool) (interp.Client, error) {
			if !given {
				var err error
				if password, err = s.client.Ask("Password of "+user+": ", true); err != nil {
					return nil, err
				}
			}
			if password != "s3cret" {
				return nil, &control.Error{Code: control.Denied, Msg: "wrong password"}
			}
			return nil, errors.New("right password")
		}})
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.over <- s.client.Run(ctx, s.in) }()
	t.Cleanup(stop)
	return s
}

// resize changes the size. The kernel tells the terminal's session, which this process is
// no part of.
func (s *screen) resize(t *testing.T, cols, rows int) {
	t.Helper()
	s.Resize(cols, rows)
	if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
		t.Fatal(err)
	}
}

// leaves waits for the end of Run.
func (s *screen) leaves(t *testing.T) {
	t.Helper()
	select {
	case err := <-s.over:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("the client does not end:\n%s", s.Screen())
	}
	if !s.Echoes() {
		t.Error("the terminal is not as it was")
	}
}

// TestLayout: at 80 columns by 24 lines the screen is as the manual draws it, and it fits
// after each resize.
func TestLayout(t *testing.T) {
	m := newMachine()
	s := newScreen(t, m, 80, 24)
	want := []string{
		" Understudy 1.2.3   Source Machine: indy",
		"Con  Rep Set     Transmit  Mirror         Replication  Queue   Sent Target State",
		"jersey",
		"1    tree        Started   Mirroring 40%  Replicating     12   3.0M OK",
		"2    mail        Paused    Idle           Replicating      0      0 OK",
		"dover",
		"3    tree        Error     Remirror requ~ Stopped          0      0 Unreachable",
		"       no route to host",
	}
	s.Await("the table", func(lines []string) bool { return slices.Equal(lines[:len(want)], want) })
	s.AwaitText("-- Messages ---", "F1 help", "Command:")
	for _, size := range [][2]int{{132, 40}, {40, 10}, {80, 24}, {20, 5}, {3, 2}, {80, 24}} {
		s.resize(t, size[0], size[1])
		s.Await("the whole after a resize", func(lines []string) bool {
			last := lines[len(lines)-1]
			return strings.HasPrefix("Command:", strings.TrimSpace(last)) && last != "" && (size[1] < 10 || strings.HasPrefix(lines[0], " Understudy"))
		})
	}
	s.Await("the table again", func(lines []string) bool { return slices.Equal(lines[:len(want)], want) })
	s.Type(testterm.CtrlD)
	s.leaves(t)
}

// TestCommands: statements run, answers and events stand in the pane, history and
// completion work, Ctrl-C ends a wait and nothing else, EXIT leaves.
func TestCommands(t *testing.T) {
	m := newMachine()
	s := newScreen(t, m, 100, 30)
	s.AwaitText("jersey")
	s.Type("write 6 \"times\" 7" + testterm.Enter)
	s.AwaitText("Command: write 6", "\n6times7")
	s.Type("for $n = 1 to 2 do" + testterm.Enter)
	s.AwaitText("    ...>")
	s.Type("write \"n\" $n" + testterm.Enter + "end" + testterm.Enter)
	s.AwaitText("\nn1", "\nn2")
	s.Type("nonsense" + testterm.Enter)
	s.AwaitText("unknown command nonsense")
	s.Type(testterm.Up + testterm.Up)
	s.AwaitText("Command: for $n = 1 to 2 do; write \"n\" $n; end")
	s.Type(testterm.CtrlU + "waitonm" + testterm.Tab)
	s.AwaitText("Command: waitonmirror")
	s.Type("1" + testterm.Enter)
	s.AwaitText("Mirroring 40%, 0 files", "12 operations in queue")
	s.Type("write 1" + testterm.Enter)
	s.AwaitText("a command runs; Ctrl-C interrupts it")
	s.Type(testterm.CtrlC)
	s.AwaitText("Interrupted; connections keep running")
	m.set(func(m *machine) {
		m.events = append(m.events, control.Event{Seq: 1, Time: time.Now(), ID: 12345, Severity: "Warning", Text: "something\x1b[2J happened"})
	})
	s.AwaitText("Warning 12345 something?[2J happened")
	s.Type(testterm.CtrlU + testterm.F1)
	s.AwaitText("WRITE")
	s.Type(testterm.PgUp)
	s.AwaitText("below: PgDn)")
	s.Type(testterm.PgDown + "exit 7" + testterm.Enter)
	s.leaves(t)
	if status, ok := s.in.ExitStatus(); !ok || status != 7 {
		t.Error("status", status, ok)
	}
}

// TestLostDaemon: a daemon that dies or hangs is shown as such, and comes back by itself.
func TestLostDaemon(t *testing.T) {
	m := newMachine()
	m.down = true
	s := newScreen(t, m, 80, 24)
	s.AwaitText("NO CONNECTION since", "no daemon runs on /none", "nothing is known yet")
	m.set(func(m *machine) { m.down = false })
	s.AwaitText("Source Machine: indy", "dover", "answers again")
	for _, fault := range []func(bool) func(*machine){
		func(on bool) func(*machine) { return func(m *machine) { m.down = on } },
		func(on bool) func(*machine) { return func(m *machine) { m.hang = on } },
	} {
		m.set(fault(true))
		s.AwaitText("NO CONNECTION since", "dover")
		m.set(fault(false))
		s.Await("no complaint", func(lines []string) bool { return !strings.Contains(lines[0], "NO CONNECTION") })
		s.Type("write \"there\"" + testterm.Enter + "status" + testterm.Enter)
		s.AwaitText("\nthere", "- Connections -")
	}
	s.stop()
	s.leaves(t)
}

// TestPasswords: what is typed at a hidden question is never shown, and no line with a
// password is repeated, recalled or logged.
func TestPasswords(t *testing.T) {
	s := newScreen(t, newMachine(), 80, 24)
	s.AwaitText("jersey")
	s.Type("setlocal clientlog = 1" + testterm.Enter)
	s.AwaitText("Command: setlocal")
	asked := func(lines []string) bool { return strings.HasPrefix(lines[len(lines)-1], "Password of repl:") }
	s.Type("login indy repl" + testterm.Enter)
	s.Await("the question", asked)
	s.Type("s3cret" + testterm.Enter)
	s.AwaitText("right password")
	s.Type("logon indy repl" + testterm.Enter)
	s.Await("the question", asked)
	s.Type(testterm.CtrlC)
	s.AwaitText("not answered")
	s.Type(testterm.Up)
	s.AwaitText("Command: setlocal clientlog = 1")
	s.Type(testterm.CtrlU + "write 5" + testterm.Enter)
	s.AwaitText("\n5")
	s.Type(testterm.CtrlD)
	s.leaves(t)
	if strings.Contains(s.Written(), "s3cret") {
		t.Error("the password was shown")
	}
	log, err := os.ReadFile(s.client.cfg.LogFile)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(log); strings.Contains(text, "repl") || !strings.Contains(text, " write 5\n") || strings.Count(text, "may hold a password") != 2 {
		t.Errorf("log:\n%s", text)
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
