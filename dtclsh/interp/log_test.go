package interp

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/dtclsh/syntax"
	"understudy/event"
)

// sharedText can be read while it is written.
type sharedText struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (s *sharedText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *sharedText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestLogviewerFollowsAFile: -c shows what is written to a journal later, until Ctrl-C,
// and the filter holds for it.
func TestLogviewerFollowsAFile(t *testing.T) {
	dir := t.TempDir()
	l, err := event.Open(event.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Raise(event.SourceStarted, event.About{})
	l.Raise(event.TargetStarted, event.About{})
	var out sharedText
	s := newShell(t, &fakeNode{}, func(c *Config) { c.Out = &out })
	script, err := syntax.Parse(`logviewer -f "` + dir + `" -c -n 4001`)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.in.Run(ctx, script) }()
	await := func(what string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !strings.Contains(out.String(), what); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%q is not in %q", what, out.String())
			}
		}
	}
	await("source started")
	l.Raise(event.DaemonFailed, event.About{}, "the disk burns")
	await("the disk burns")
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("LOGVIEWER goes on")
	}
	if got := out.String(); strings.Contains(got, "target started") || strings.Count(got, "\n") != 2 {
		t.Errorf("%q", got)
	}
}
