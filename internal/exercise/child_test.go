package exercise

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"understudy/internal/sametree"
)

func TestMain(m *testing.M) {
	Child()
	os.Exit(m.Run())
}

// TestChild: a job does in a child what it does here.
func TestChild(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	j := Job{Kind: "stress", Seed: 3, Ops: 500, Dir: a}
	if _, err := j.Run(nil); err != nil {
		t.Fatal(err)
	}
	j.Dir = b
	if s, err := j.RunChild(t.Context()); err != nil || s.Ops < 200 {
		t.Fatal(s, err)
	}
	sametree.Check(t, a, b, sametree.Options{NoMtime: true})
	j = Job{Kind: "fsx", Seed: 3, Ops: 200, Dir: b + "/missing"}
	if _, err := j.RunChild(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := t.TempDir()
	j = Job{Kind: "rate", Seed: 3, Ops: 500, Dir: c}
	go func() {
		defer cancel()
		waitFor(t, func() bool { names, _ := os.ReadDir(c); return len(names) > 0 })
	}()
	if s, err := j.RunChild(ctx); err != nil {
		t.Error(s, err)
	}
}

// TestRate: changes come at the rate asked for, in a tree that was there before.
func TestRate(t *testing.T) {
	dir := t.TempDir()
	if _, err := Stress(dir, 1, 1, 1000, StressOptions{NoSpecial: true}); err != nil {
		t.Fatal(err)
	}
	before, err := sametree.Snapshot(dir)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	time.AfterFunc(time.Second, func() { close(stop) })
	begin := time.Now()
	s, err := Rate(dir, 1, 1000, stop)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin).Seconds()
	t.Logf("%.0f changes a second: %s", float64(s.Ops)/took, s)
	tried := s.Ops
	for _, n := range s.Failed {
		tried += n
	}
	if r := float64(tried) / took; r > 1150 {
		t.Errorf("%.0f changes a second, asked for 1000", r)
	}
	for _, kind := range []string{"rename", "unlink", "truncate", "write"} {
		if s.Done[kind] == 0 {
			t.Errorf("never did %s", kind)
		}
	}
	after, err := sametree.Snapshot(dir)
	if err != nil || len(sametree.DiffTrees(before, after, sametree.Options{})) == 0 {
		t.Errorf("nothing changed: %v", err)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Error("nothing happened within 10 s")
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}
