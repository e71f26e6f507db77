package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"understudy/internal/sametree"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"understudy": main})
}

// TestScripts runs the program as its users do. Needs root and /dev/fuse for what is
// captured by a mount; those scripts say that they are skipped.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: setup,
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "fuse":
				_, err := os.Stat("/dev/fuse")
				return err == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"expand": expand, "waitgrep": waitGrep, "same": same, "mounted": mounted, "noprocess": noProcess, "exits": exits,
		},
	})
}

// setup gives a script a free port, opens the way to the program for every user, and
// takes away what a failed script leaves mounted.
func setup(env *testscript.Env) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	env.Setenv("PORT", port)
	tmp := filepath.Join(env.WorkDir, "tmp")
	env.Setenv("TMPDIR", tmp)
	if err := os.MkdirAll(tmp, 0o777); err != nil {
		return err
	}
	program, err := exec.LookPath("understudy")
	if err != nil {
		return err
	}
	for _, dir := range []string{env.WorkDir, filepath.Dir(program)} {
		for ; strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				return err
			}
		}
	}
	env.Defer(func() {
		for _, dir := range mounts(env.WorkDir) {
			_ = unix.Unmount(dir, unix.MNT_DETACH) // only what a failed script left
		}
	})
	return os.Chmod(tmp, 0o1777)
}

// mounts lists what is mounted at dir or below.
func mounts(dir string) (list []string) {
	text, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && (f[1] == dir || strings.HasPrefix(f[1], dir+"/")) {
			list = append(list, f[1])
		}
	}
	return list
}

// exits runs a command that ends with a code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if e := new(exec.ExitError); errors.As(err, &e) {
		code = e.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d: %v", code, err)
	}
}

// expand puts the script's variables into files.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(os.Expand(ts.ReadFile(name), ts.Getenv)), 0o600))
	}
}

// waitGrep waits until a file has a line that matches.
func waitGrep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitgrep PATTERN FILE")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var text []byte
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if text, _ = os.ReadFile(ts.MkAbs(args[1])); re.Match(text) {
			return
		}
	}
	ts.Fatalf("waited in vain for %q in %s:\n%s", args[0], args[1], text)
}

// same compares two trees.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] same DIR DIR")
	}
	lines, err := sametree.Diff(ts.MkAbs(args[0]), ts.MkAbs(args[1]), sametree.Options{})
	ts.Check(err)
	if (len(lines) == 0) == neg {
		ts.Fatalf("same is %t:\n%s", !neg == (len(lines) == 0), strings.Join(lines, "\n"))
	}
}

// mounted looks whether something is mounted at a directory or below.
func mounted(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] mounted DIR")
	}
	if list := mounts(ts.MkAbs(args[0])); (len(list) == 0) != neg {
		ts.Fatalf("mounted: %q", list)
	}
}

// noProcess refuses processes whose command line has the text.
func noProcess(ts *testscript.TestScript, _ bool, args []string) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	ts.Check(err)
	for _, f := range files {
		if text, _ := os.ReadFile(f); strings.Contains(string(text), args[0]) && !strings.Contains(f, fmt.Sprintf("/%d/", os.Getpid())) {
			ts.Fatalf("%s still runs: %q", f, text)
		}
	}
}
