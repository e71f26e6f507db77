package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Whole programs in namespaces of their own: mounts, network and processes. Nothing of
// what they do is seen outside, and all of it ends with the first process.

// built is where the programs are; TestMain removes it.
var built string

// programs builds the programs once, into a directory.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "understudy-programs-")
	if err != nil {
		return "", err
	}
	built = dir
	out, err := exec.Command("go", "build", "-o", dir, "understudy/cmd/understudy", "understudy/cmd/dtclsh").CombinedOutput()
	if err != nil {
		return "", &buildError{err, string(out)}
	}
	return dir, nil
})

type buildError struct {
	err error
	out string
}

func (e *buildError) Error() string { return "build the programs: " + e.err.Error() + "\n" + e.out }

// private runs a script of testdata where /tmp, /srv and /out are fresh directories and
// the programs are found; it returns the directories' place outside.
func private(t *testing.T, script string, env ...string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for namespaces")
	}
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	for _, dir := range []string{"tmp", "srv", "out"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join("testdata", script))
	if err != nil {
		t.Fatal(err)
	}
	ops, err := filepath.Abs("../../ops")
	if err != nil {
		t.Fatal(err)
	}
	testdata, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	const setUp = `set -eu
mount -t tmpfs -o size=16m tmpfs /mnt
mkdir /mnt/bin /mnt/out /mnt/ops /mnt/testdata
mount --bind "$BIN" /mnt/bin
mount --bind "$OPS" /mnt/ops
mount --bind "$TESTDATA" /mnt/testdata
mount --bind "$BASE/srv" /srv
mount --bind "$BASE/out" /mnt/out
mount --bind "$BASE/tmp" /tmp
cd /
exec bash -c "$SCRIPT"
`
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute) // also ends what hangs in a mount
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", setUp)
	cmd.Env = append(os.Environ(), "BASE="+base, "BIN="+bin, "OPS="+ops, "TESTDATA="+testdata,
		"SCRIPT="+string(bytes.ReplaceAll(text, []byte("/out/"), []byte("/mnt/out/"))), "PATH=/mnt/bin:"+os.Getenv("PATH"), "HOME=/tmp")
	cmd.Env = append(cmd.Env, env...)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		for _, log := range []string{"indy.log", "jersey.log"} {
			raw, _ := os.ReadFile(filepath.Join(base, "out", log)) // for the report
			t.Logf("%s:\n%s", log, raw)
		}
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return base
}
