// Package testlogin makes users and groups of the operating system for tests, and has
// the PAM service there or away. All of that belongs to the machine: one test at a time
// has it, also of different test programs. It needs root.
package testlogin

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/internal/pamlogin"
)

// Machine is the right to change the users of this machine.
type Machine struct {
	t    testing.TB
	made int
}

// Take waits until no other test has the machine. The end of the test gives it back.
func Take(t testing.TB) *Machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making users takes root")
	}
	if _, err := exec.LookPath("useradd"); err != nil {
		t.Skip("there is no useradd here to make users with")
	}
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "understudy-test-login.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	sweep("/etc/passwd", "userdel")
	sweep("/etc/group", "groupdel")
	return &Machine{t: t}
}

var ours = regexp.MustCompile(`(?m)^ustest[ug](\d+)-\d+:`)

// sweep takes away what tests left that ended without their cleanup.
func sweep(file, tool string) {
	text, _ := os.ReadFile(file)
	for _, m := range ours.FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat("/proc/" + m[1]); os.IsNotExist(err) {
			_ = exec.Command(tool, strings.TrimSuffix(m[0], ":")).Run() // the next one tries again
		}
	}
}

// serviceFile is where PAM finds the rules of the service.
const serviceFile = "/etc/pam.d/" + pamlogin.Service

// WithService has the service's file there until the end of the test.
func (m *Machine) WithService() {
	m.t.Helper()
	file, err := pamlogin.Install()
	if errors.Is(err, pamlogin.ErrInstalled) {
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = os.Remove(file) })
}

// WithoutService has it away until the end of the test.
func (m *Machine) WithoutService() {
	m.t.Helper()
	text, err := os.ReadFile(serviceFile)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil {
		err = os.Remove(serviceFile)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if err := os.WriteFile(serviceFile, text, 0o644); err != nil {
			m.t.Error(err)
		}
	})
}

// User makes a user that is in groups.
func (m *Machine) User(password string, groups ...string) (name string) {
	m.t.Helper()
	name = m.name("u")
	args := []string{"--no-create-home", "--shell", "/usr/sbin/nologin"}
	if len(groups) > 0 {
		args = append(args, "--groups", strings.Join(groups, ","))
	}
	m.Run("", "useradd", append(args, name)...)
	m.t.Cleanup(func() { m.Run("", "userdel", name) })
	m.Run(name+":"+password+"\n", "chpasswd")
	return name
}

// Group makes a group.
func (m *Machine) Group() (name string) {
	m.t.Helper()
	name = m.name("g")
	m.Run("", "groupadd", name)
	m.t.Cleanup(func() { m.Run("", "groupdel", name) })
	return name
}

func (m *Machine) name(prefix string) string {
	m.made++
	return fmt.Sprintf("ustest%s%d-%d", prefix, os.Getpid(), m.made)
}

// Run calls a tool with an input.
func (m *Machine) Run(in, tool string, args ...string) {
	m.t.Helper()
	cmd := exec.Command(tool, args...)
	cmd.Stdin = strings.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %v: %s", tool, err, out)
	}
}
