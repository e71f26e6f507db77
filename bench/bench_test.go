package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		f    figure
		want string
	}{
		{figure{value: 6, bound: bound{must: 5, goal: 2}}, "MISSED 1.20 times"},
		{figure{value: 4, bound: bound{must: 5, goal: 2}}, "met; goal missed 2.00 times"},
		{figure{value: 2, bound: bound{must: 5, goal: 2}}, "met"},
		{figure{ratio: 0.45, bound: bound{must: 0.9, atLeast: true, onRatio: true}}, "MISSED 2.00 times"},
		{figure{ratio: 0.95, bound: bound{must: 0.9, goal: 1, atLeast: true, onRatio: true}}, "met; goal missed 1.05 times"},
		{figure{value: 7}, ""},
		{figure{value: 7, note: "FAILED: no"}, "FAILED: no"},
	} {
		if got := c.f.verdict(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.f, got, c.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	v := []float64{5, 1, 4, 2, 3}
	if m := median(v); m != 3 {
		t.Errorf("median %v", m)
	}
	if p := quantile(v, 0.99); p != 5 {
		t.Errorf("p99 %v", p)
	}
	if !math.IsNaN(median(nil)) {
		t.Error("the median of nothing is a number")
	}
}

func TestParseBenchmark(t *testing.T) {
	f, ok := parseBenchmark("BenchmarkCapture/create-4K-2         \t       1\t      3600 captured/s\t      0.9000 ratio\t      4000 reference/s\n")
	if !ok || f != (captureFigure{"create-4K", 3600, 4000}) {
		t.Errorf("%+v %v", f, ok)
	}
	if _, ok := parseBenchmark("BenchmarkCapture \n"); ok {
		t.Error("a line without figures was taken")
	}
}

// TestIdentical: the watcher of a burst sees what is missing and what differs.
func TestIdentical(t *testing.T) {
	dir := t.TempDir()
	pool := randomPool(1 << 20)
	bodies := [][]byte{burstBody(pool, 0), burstBody(pool, 1)}
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("n1", bodies[1])
	if _, err := identicalAt(dir, bodies, 1); err == nil || !strings.Contains(err.Error(), "1 of 2") {
		t.Errorf("a file is missing: %v", err)
	}
	write("n0", bodies[1])
	if _, err := identicalAt(dir, bodies, 1); err == nil || !strings.Contains(err.Error(), "n0 differs") {
		t.Errorf("a file differs: %v", err)
	}
	write("n0", bodies[0])
	if _, err := identicalAt(dir, bodies, 1); err != nil {
		t.Error(err)
	}
}

func TestSameTree(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		if err := makeTree(dir, 150, 10, 2000); err != nil {
			t.Fatal(err)
		}
	}
	if err := sameTree(a, b); err != nil {
		t.Error(err)
	}
	if err := os.Truncate(b+"/d1/f3", 5); err != nil {
		t.Fatal(err)
	}
	if err := sameTree(a, b); err == nil {
		t.Error("a shorter file went unnoticed")
	}
	if err := os.Remove(a + "/d1/f3"); err != nil {
		t.Fatal(err)
	}
	if err := sameTree(a, b); err == nil {
		t.Error("an extra file went unnoticed")
	}
}

// TestOwnFigures reads this process's own.
func TestOwnFigures(t *testing.T) {
	if _, err := cpuSeconds(os.Getpid()); err != nil {
		t.Error(err)
	}
	if m, err := peakMemory(os.Getpid()); err != nil || m < 1<<20 {
		t.Errorf("%d bytes, %v", m, err)
	}
}
