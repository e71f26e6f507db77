package stories

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"understudy/internal/exercise"
	"understudy/internal/sametree"
)

// Limit ends the mounts of a story that hangs; Patience is how long one state is waited
// for: eight times what a busy machine was seen to need.
const (
	Limit    = 10 * time.Minute
	Patience = 2 * time.Minute
)

// Long reports whether the long forms of tests are wanted (task long).
func Long() bool { return os.Getenv("UNDERSTUDY_LONG") != "" }

// Scaled is the count of a test's rounds: short in the test run, long as a task.
func Scaled(short, long int) int {
	if Long() {
		return long
	}
	return short
}

// Must fails the test at an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// WaitFor waits for a state, not for a time.
func WaitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain: %s", Patience, what)
		}
	}
}

// Same fails unless two trees are equal, with all attributes.
func Same(t testing.TB, a, b string) {
	t.Helper()
	SameWhen(t, "in the end", a, b)
}

// SameWhen is Same with a word on the moment.
func SameWhen(t testing.TB, when, a, b string) {
	t.Helper()
	diffs, err := sametree.Diff(a, b, sametree.Options{})
	if err != nil || len(diffs) > 0 {
		t.Fatalf("%s: %s and %s differ in %d places: %v\n%s", when, a, b, len(diffs), err, strings.Join(diffs[:min(len(diffs), 20)], "\n"))
	}
}

// TempDir is a directory of the test's own, open to other users. Unlike that of t, one that
// cannot be taken away fails no test: a mount may be on its way out.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "understudy-test-")
	Must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	Must(t, os.Chmod(dir, 0o755))
	return dir
}

// Load changes what is in dir until the returned function ends it, which tells the number
// of changes.
func Load(t testing.TB, dir string, seed int64, perSecond int) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var stats exercise.Stats
	done := make(chan error, 1)
	go func() {
		var err error
		stats, err = exercise.Job{Kind: "rate", Dir: dir, Seed: seed, Ops: perSecond}.RunChild(ctx)
		done <- err
	}()
	return func() int {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("load on %s, seed %d: an application saw an error: %v", dir, seed, err)
		}
		return stats.Ops
	}
}
