package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/internal/access"
	"understudy/internal/pamlogin"
	"understudy/internal/testlogin"
	"understudy/internal/testterm"
	"understudy/node"
)

// The passwords of these tests: wherever one is found that it was not typed, it leaked.
const (
	password      = "c4nary-of-the-login-test"
	wrongPassword = "wr0ng-c4nary-of-the-login-test"
)

// logins is two unpaired nodes, with users, and the shell as a program.
type logins struct {
	t            *testing.T
	m            *testlogin.Machine
	base         string
	program      string
	indy, jersey *node.Node
	admins       string // groups
	monitors     string
}

func newLogins(t *testing.T) *logins {
	t.Helper()
	l := &logins{t: t, m: testlogin.Take(t), base: t.TempDir()}
	l.m.WithService()
	l.admins, l.monitors = l.m.Group(), l.m.Group()
	var err error
	if l.program, err = exec.LookPath("dtclsh"); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{l.base, filepath.Dir(l.program)} { // other users have to get there
		for ; strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.indy, l.jersey = l.node("indy"), l.node("jersey")
	return l
}

func (l *logins) node(name string) *node.Node {
	l.t.Helper()
	helper, err := exec.LookPath("pam-helper")
	if err != nil {
		l.t.Fatal(err)
	}
	cfg := node.DefaultConfig()
	cfg.Name, cfg.Data, cfg.Listen = name, l.data(name), "127.0.0.1:0"
	cfg.AdminGroup, cfg.MonitorGroup, cfg.LoginCommand = l.admins, l.monitors, []string{helper}
	cfg.RecheckGroups = 50 * time.Millisecond
	log, err := os.Create(filepath.Join(l.base, name+".log"))
	if err != nil {
		l.t.Fatal(err)
	}
	n, err := node.Open(cfg, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	l.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Error(name, "stopped:", err)
		}
		log.Close()
	})
	select {
	case <-n.Ready():
	case <-time.After(time.Minute):
		l.t.Fatal(name, "does not start")
	}
	return n
}

func (l *logins) data(name string) string { return filepath.Join(l.base, name) }

// keyOf is what --trust takes.
func (l *logins) keyOf(name string) string {
	l.t.Helper()
	ring, err := access.Open(l.data(name), name)
	if err != nil {
		l.t.Fatal(err)
	}
	return ring.Key().String()
}

// shell is one call of the program.
type shell struct {
	as string // user of the operating system; "": root
	in string
	fd string // what can be read from descriptor 3
}

// command prepares a call; every user has a home of its own.
func (l *logins) command(s shell, args ...string) *exec.Cmd {
	l.t.Helper()
	home := filepath.Join(l.base, "home-"+s.as)
	cmd := exec.Command(l.program, args...)
	cmd.Dir, cmd.Env = "/", []string{"HOME=" + home, "PATH=/usr/bin:/bin", "TERM=xterm"}
	cmd.Stdin = strings.NewReader(s.in)
	if err := os.MkdirAll(home, 0o700); err != nil {
		l.t.Fatal(err)
	}
	if s.as != "" {
		cred := credentials(l.t, s.as)
		if err := os.Chown(home, int(cred.Uid), int(cred.Gid)); err != nil {
			l.t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Setsid: true}
	}
	if s.fd != "" {
		r, w, err := os.Pipe()
		if err == nil {
			_, err = io.WriteString(w, s.fd)
		}
		if err != nil {
			l.t.Fatal(err)
		}
		w.Close()
		l.t.Cleanup(func() { r.Close() })
		cmd.ExtraFiles = []*os.File{r}
	}
	return cmd
}

// knows has both machines known to a user, by what a first login keeps.
func (l *logins) knows(as string) {
	l.t.Helper()
	cmd := l.command(shell{as: as}, "--check", "-c", "exit") // makes the home
	dir := filepath.Join(strings.TrimPrefix(cmd.Env[0], "HOME="), ".config", "understudy")
	text := l.indy.Addr() + " " + l.keyOf("indy") + "\n" + l.jersey.Addr() + " " + l.keyOf("jersey") + "\n"
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "known_machines"), []byte(text), 0o644)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func credentials(t *testing.T, name string) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	number := func(text string) uint32 {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(n)
	}
	cred := &syscall.Credential{Uid: number(u.Uid), Gid: number(u.Gid)}
	ids, err := u.GroupIds()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		cred.Groups = append(cred.Groups, number(id))
	}
	return cred
}

// run calls the program without a terminal and returns all that it says.
func (l *logins) run(s shell, args ...string) string {
	l.t.Helper()
	cmd := l.command(s, args...)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		l.t.Fatal(err)
	}
	return string(out)
}

// says fails the test if one of the texts is missing.
func says(t *testing.T, what, out string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("%s: %q is missing in\n%s", what, text, out)
		}
	}
}

// rights is a script that shows what a session may do, after what logs in: look, change.
const rights = `
$r = status
if $r >= 0 then write "may look" else write "may not look" end
$r = machine add "elsewhere" "192.0.2.9:6320"
if $r >= 0 then write "may change" else write "may not change" end
$r = machine remove "elsewhere"
`

// level is what the script says at each level.
var level = map[string][]string{
	"admin":   {"may look", "may change"},
	"monitor": {"may look", "may not change"},
	"none":    {"may not look", "may not change"},
}

// TestUsersLogIn: users of the operating system log in with LOGIN and with -u, by a
// file, a descriptor, at several machines at a time; each may do what its groups give,
// and after LOGOUT nothing.
func TestUsersLogIn(t *testing.T) {
	l := newLogins(t)
	search := l.watchProcesses()
	users := map[string]string{"admin": l.m.User(password, l.admins), "monitor": l.m.User(password, l.monitors), "none": l.m.User(password)}
	file := filepath.Join(t.TempDir(), "secret") // not among what is searched
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.knows("")
	for name, who := range users {
		says(t, "-u, by a file, "+name, l.run(shell{in: rights}, "-s", l.jersey.Addr(), "-u", who, "--password-file", file), level[name]...)
		says(t, "-u, by a descriptor, "+name, l.run(shell{in: rights, fd: password}, "-s", l.jersey.Addr(), "-u", who, "--password-file", "/dev/fd/3"), level[name]...)
		text := fmt.Sprintf("login %q %s %q; source %q\n", l.jersey.Addr(), who, password, l.jersey.Addr())
		code := map[string]string{"admin": "DT_FULL_ACCESS", "monitor": "DT_MONITOR_ACCESS", "none": "DT_NO_ACCESS"}[name]
		says(t, "LOGIN, "+name, l.run(shell{in: text + rights}, "--data", l.data("indy")), append(level[name], code)...)
	}
	l.deniedLogins(users["admin"])
	l.severalMachines(users)
	search()
	l.nothingLeaked()
}

// deniedLogins: a wrong password, an unknown user and a locked account give nothing, and
// all are told the same.
func (l *logins) deniedLogins(who string) {
	l.t.Helper()
	const refused = "refuses: user and password are not accepted here"
	login := func(who, secret string) string {
		return l.run(shell{fd: secret, in: rights}, "-s", l.jersey.Addr(), "-u", who, "--password-file", "/dev/fd/3")
	}
	says(l.t, "wrong password", login(who, wrongPassword), refused, "may not look", "may not change")
	says(l.t, "unknown user", login("nobody-of-this-name", password), refused, "may not look")
	l.m.Run("", "usermod", "--lock", who)
	says(l.t, "locked account", login(who, password), refused, "may not look")
	l.m.Run("", "usermod", "--unlock", who)
	text := fmt.Sprintf("$l = login %q %s %q; write \"level \" $l\n", l.jersey.Addr(), who, wrongPassword)
	says(l.t, "LOGIN, wrong password", l.run(shell{in: text}, "--data", l.data("indy")), "level 0")
}

// severalMachines: sessions with two machines at a time, as different users, of which
// one ends.
func (l *logins) severalMachines(users map[string]string) {
	l.t.Helper()
	at := func(n *node.Node) string { return fmt.Sprintf("source %q\n", n.Addr()) + rights }
	script := fmt.Sprintf("login %q %s %q\nlogin %q %s %q\nwrite one\n", l.jersey.Addr(), users["admin"], password, l.indy.Addr(), users["monitor"], password) +
		at(l.jersey) + "write two\n" + at(l.indy) + fmt.Sprintf("logout %q\nwrite three\n", l.jersey.Addr()) + at(l.indy) + "write four\n" + at(l.jersey)
	none := l.m.User(password) // of this machine: what it has, it has from the logins
	l.knows(none)
	out := l.run(shell{as: none, in: script}, "--data", filepath.Join(l.base, "nowhere"))
	var part [4]string
	rest := out
	for i, mark := range []string{"one", "two", "three", "four"} {
		if i > 0 {
			part[i-1], rest, _ = strings.Cut(rest, mark)
		} else {
			_, rest, _ = strings.Cut(rest, mark)
		}
	}
	part[3] = rest
	for i, want := range []string{"admin", "monitor", "monitor", "none"} {
		says(l.t, fmt.Sprintf("several machines, step %d of\n%s\n", i, out), part[i], level[want]...)
	}
}

// watchProcesses looks for passwords in the command lines and environments of all
// processes, over and over, until it is called back.
func (l *logins) watchProcesses() (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	looks := 0
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			case <-time.After(20 * time.Millisecond):
			}
			for _, f := range processesWith(password) {
				l.t.Errorf("a password is shown by %s", f)
				return
			}
			looks++
		}
	}()
	return func() {
		close(end)
		<-ended
		l.t.Logf("looked at all processes %d times", looks)
		if looks == 0 {
			l.t.Error("never looked at the processes")
		}
	}
}

// processesWith lists processes in whose arguments or environment the text can be read.
func processesWith(text string) (found []string) {
	for _, pattern := range []string{"/proc/[0-9]*/cmdline", "/proc/[0-9]*/environ"} {
		files, _ := filepath.Glob(pattern)
		for _, f := range files {
			if raw, _ := os.ReadFile(f); bytes.Contains(raw, []byte(text)) {
				found = append(found, f+": "+string(raw))
			}
		}
	}
	return found
}

// nothingLeaked searches all that the nodes and the shells wrote: data, logs, events,
// homes with histories and known machines.
func (l *logins) nothingLeaked() {
	l.t.Helper()
	files := 0
	err := filepath.WalkDir(l.base, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		files++
		if bytes.Contains(raw, []byte(password)) {
			l.t.Errorf("%s holds a password", path)
		}
		return err
	})
	if err != nil || files < 10 {
		l.t.Errorf("searched %d files: %v", files, err)
	}
	l.t.Logf("searched %d files", files)
}

// TestLostRightsEndSessions: who is taken out of a group while logged in has no more
// rights than before the next look at the groups; who is put into one has them.
func TestLostRightsEndSessions(t *testing.T) {
	l := newLogins(t)
	who := l.m.User(password, l.monitors)
	in, keys := io.Pipe()
	cmd := l.command(shell{}, "--data", filepath.Join(l.base, "nowhere"), "-i")
	var out lockedBuffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = keys.Close() // the end of its input ends it
		_ = cmd.Wait()
	})
	ask := func(want string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; {
			n := out.Len()
			fmt.Fprintln(keys, strings.ReplaceAll(strings.TrimSpace(rights), "\n", ";")+`; write "asked"`)
			for !strings.Contains(out.From(n), "asked\n") && time.Now().Before(end) {
				time.Sleep(5 * time.Millisecond)
			}
			said := out.From(n)
			if ok := strings.Contains(said, level[want][0]) && strings.Contains(said, level[want][1]); ok {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("not at level %s:\n%s", want, said)
			}
		}
	}
	l.knows("")
	fmt.Fprintf(keys, "login %q %s %q; source %q\n", l.jersey.Addr(), who, password, l.jersey.Addr())
	ask("monitor")
	l.m.Run("", "gpasswd", "--delete", who, l.monitors)
	ask("none")
	l.m.Run("", "gpasswd", "--add", who, l.admins)
	ask("admin")
	l.m.Run("", "gpasswd", "--delete", who, l.admins)
	ask("none")
	l.nothingLeaked()
}

// TestGroupsOnThisMachine: without a password, users of the machine itself may do what
// their groups give, by who can read the files of the data directory.
func TestGroupsOnThisMachine(t *testing.T) {
	l := newLogins(t)
	users := map[string]string{"admin": l.m.User(password, l.admins), "monitor": l.m.User(password, l.monitors), "none": l.m.User(password)}
	for name, who := range users {
		out := l.run(shell{as: who, in: rights}, "--data", l.data("indy"))
		says(t, name, out, level[name]...)
	}
	says(t, "what to do", l.run(shell{as: users["none"]}, "--data", l.data("indy"), "-c", "status"), "permission denied", "member of the group")
	for _, name := range []string{"keyring.json", "local.json", "local-monitor.json"} {
		cmd := exec.Command("cat", filepath.Join(l.data("indy"), name))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credentials(t, users["monitor"])}
		if out, err := cmd.CombinedOutput(); (err == nil) != (name == "local-monitor.json") {
			t.Errorf("a monitor reads %s: %v, %d bytes", name, err, len(out))
		}
	}
}

// TestPasswordIsNotShown: at the prompt the password is asked for without an echo, and
// the machine is trusted on the first use if the person says so, and only then.
func TestPasswordIsNotShown(t *testing.T) {
	l := newLogins(t)
	who := l.m.User(password, l.monitors)
	login := fmt.Sprintf("login %q %s", l.jersey.Addr(), who) + testterm.Enter
	start := func() *testterm.Terminal {
		term := testterm.New(t, 200, 40)
		term.Start(l.command(shell{}, "--data", filepath.Join(l.base, "nowhere")))
		term.AwaitText("Command:")
		term.Type(login)
		term.AwaitText("Password of " + who)
		term.Type(password + testterm.Enter)
		return term
	}
	end := func(term *testterm.Terminal, texts ...string) {
		t.Helper()
		term.AwaitText(texts...)
		term.Type("exit" + testterm.Enter)
		if code := term.Exit(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if strings.Contains(term.Written(), password) {
			t.Error("the password is shown")
		}
		if !term.Echoes() {
			t.Error("the terminal does not echo any more")
		}
	}
	first := start()
	first.AwaitText("is not known here", l.keyOf("jersey"), "Trust it from now on?")
	first.Type("no" + testterm.Enter)
	end(first, "is not trusted", "DT_NO_ACCESS")
	second := start()
	second.AwaitText("Trust it from now on?")
	second.Type("yes" + testterm.Enter)
	end(second, "DT_MONITOR_ACCESS")
	broken := testterm.New(t, 200, 40)
	broken.Start(l.command(shell{}, "--data", filepath.Join(l.base, "nowhere")))
	broken.AwaitText("Command:")
	broken.Type(login)
	broken.AwaitText("Password of " + who)
	broken.Type(password + testterm.CtrlC)
	end(broken, "Interrupted; connections keep running")
	third := start()
	end(third, "DT_MONITOR_ACCESS")
	if strings.Contains(third.Written(), "Trust it") {
		t.Error("a known machine is asked about")
	}
	l.nothingLeaked()
	history, _ := filepath.Glob(filepath.Join(l.base, "home-", ".local", "state", "understudy", "*history*"))
	for _, f := range history {
		if text, err := os.ReadFile(f); err != nil || strings.Contains(string(text), who) {
			t.Errorf("the history keeps logins: %q, %v", text, err)
		}
	}
}

// TestMachineOfAnotherKey: a machine whose key is not the one that is known gets no
// password; without a terminal, one that was never met is refused, too. Both errors say
// what to do.
func TestMachineOfAnotherKey(t *testing.T) {
	l := newLogins(t)
	who := l.m.User(password, l.monitors)
	login := func(s shell, more ...string) string {
		s.fd, s.in = password, rights
		return l.run(s, append([]string{"-s", l.jersey.Addr(), "-u", who, "--password-file", "/dev/fd/3"}, more...)...)
	}
	says(t, "never met", login(shell{}), "is not known here", "understudy pair list", "--trust "+l.keyOf("jersey"), "may not look")
	says(t, "another is trusted", login(shell{}, "--trust", l.keyOf("indy")), "which is not the one expected", "may not look")
	says(t, "trusted", login(shell{}, "--trust", l.keyOf("jersey")), level["monitor"]...)
	says(t, "known", login(shell{}), level["monitor"]...)
	known := filepath.Join(l.base, "home-", ".config", "understudy", "known_machines")
	if err := os.WriteFile(known, []byte(l.jersey.Addr()+" "+l.keyOf("indy")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, "changed", login(shell{}), "which is not the one expected", known, "--trust "+l.keyOf("jersey"), "may not look")
	says(t, "changed and trusted again", login(shell{}, "--trust", l.keyOf("jersey")), level["monitor"]...)
	says(t, "known again", login(shell{}), level["monitor"]...)
}

// TestPasswordOfACommand: a password behind -c is taken out of the list of processes.
func TestPasswordOfACommand(t *testing.T) {
	l := newLogins(t)
	who := l.m.User(password, l.monitors)
	l.knows("")
	term := testterm.New(t, 200, 40)
	text := fmt.Sprintf("login %q %s %q; wait 600 seconds", l.jersey.Addr(), who, password)
	cmd := l.command(shell{}, "--data", filepath.Join(l.base, "nowhere"), "-c", text)
	term.Start(cmd)
	term.AwaitText("DT_MONITOR_ACCESS")
	if found := processesWith(password); len(found) > 0 {
		t.Errorf("shown by %q", found)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && (f[4] != "0" || f[5] != "0") {
			t.Error("it may leave a core: ", line)
		}
	}
	term.Signal(syscall.SIGTERM)
	term.Exit()
}

// TestWithoutService: where PAM has no rules for the daemon, it starts, says what is
// missing, lets nobody in by a password, and takes tokens.
func TestWithoutService(t *testing.T) {
	m := testlogin.Take(t)
	m.WithoutService()
	l := &logins{t: t, m: m, base: t.TempDir()}
	l.admins, l.monitors = m.Group(), m.Group()
	var err error
	if l.program, err = exec.LookPath("dtclsh"); err != nil {
		t.Fatal(err)
	}
	l.jersey = l.node("jersey")
	who := m.User(password, l.admins)
	out := l.run(shell{in: rights, fd: password}, "-s", l.jersey.Addr(), "-u", who, "--password-file", "/dev/fd/3", "--trust", l.keyOf("jersey"))
	says(t, "password", out, pamlogin.ErrUnavailable.Error(), "may not look")
	says(t, "local", l.run(shell{in: rights}, "--data", l.data("jersey")), level["admin"]...)
	waitFor(t, "the daemon to say so", func() bool {
		log, err := os.ReadFile(filepath.Join(l.base, "jersey.log"))
		return err == nil && bytes.Contains(log, []byte("no logins with passwords")) && bytes.Contains(log, []byte("run: understudy pam-install"))
	})
}
