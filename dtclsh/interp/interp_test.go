package interp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"understudy/control"
	"understudy/dtclsh/syntax"
	"understudy/repset"
)

// fakeNode keeps replication sets as a node does, and connections as told.
type fakeNode struct {
	sets  map[string]repset.Set
	cons  []control.Connection
	calls []string
	// settle blocks until ctx ends where this is set
	hang bool
}

type fakeClient struct{ n *fakeNode }

func (c fakeClient) Node() string { return "indy" }
func (c fakeClient) Close()       {}

func (c fakeClient) Call(ctx context.Context, verb string, req, reply any) error {
	c.n.calls = append(c.n.calls, verb)
	out, err := c.n.answer(ctx, verb, req)
	if err != nil || reply == nil {
		return err
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, reply)
}

func (n *fakeNode) answer(ctx context.Context, verb string, req any) (any, error) {
	switch r := req.(type) {
	case repset.Set:
		old := n.sets[r.Name]
		saved, err := old.Save(r)
		if err != nil {
			return nil, control.Errorf(control.Refused, "load it again", "%v", err)
		}
		n.sets[r.Name] = saved
		return control.Repset{Set: saved}, nil
	case control.NameRequest:
		s, ok := n.sets[r.Name]
		if !ok {
			return nil, control.Errorf(control.NotFound, "", "no set %s", r.Name)
		}
		return control.Repset{Set: s}, nil
	case control.SettleRequest:
		if n.hang {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		return struct{}{}, nil
	}
	switch verb {
	case "status":
		return control.Status{Name: "indy", Connections: n.cons}, nil
	case "connect":
		return control.ConnectReply{ID: 3}, nil
	case "machine.list":
		return control.MachineList{Machines: []control.Machine{{Name: "indy", Address: "here"}}}, nil
	}
	return struct{}{}, nil
}

// shell runs texts against a fake node.
type shell struct {
	t        *testing.T
	in       *Interp
	out, err bytes.Buffer
}

func newShell(t *testing.T, n *fakeNode, change func(*Config)) *shell {
	s := &shell{t: t}
	cfg := Config{Out: &s.out, Err: &s.err, Dial: func(context.Context, string) (Client, error) { return fakeClient{n}, nil }}
	if change != nil {
		change(&cfg)
	}
	s.in = New(cfg)
	return s
}

// run returns what a text prints, answers before errors.
func (s *shell) run(text string) string {
	s.t.Helper()
	script, err := syntax.Parse(text)
	if err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
	s.out.Reset()
	s.err.Reset()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = s.in.Run(ctx, script) // the last value tells
	return s.out.String() + s.err.String()
}

func TestLanguage(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`$a = 1 + 2 * 3; write $a`, "7\n"},
		{`$a = (1 + 2) * -3; write $a`, "-9\n"},
		{`$a = 7 / 2 - 1; write $a`, "2\n"},
		{`$a = "x" + 1 + "y"; write $a`, "x1y\n"},
		{`$A = 5; write $a`, "5\n"},
		{`if "5" = 5 and not 0 and 2 > 1 then write "y" else write "n" end`, "y\n"},
		{`if 1 or 0 and 0 then write "y" else write "n" end`, "y\n"},
		{`if not 1 = 0 then write "y" else write "n" end`, "y\n"}, // NOT binds tighter than =
		{`if -1 or "" then write "y" else write "n" end`, "n\n"},
		{`if 03/31/08 < 04/01/08 and 9:30 <= 12:00 then write 03/31/08 " " 9:30 end`, "03/31/08 9:30\n"},
		{`for $n = 3 to 1 step -1 do write $n end`, "3\n2\n1\n"},
		{`for $n = 1 to 0 do write $n end; write "none"`, "none\n"},
		{`for $n = 1; $n < 3; $n = $n + 1 do write $n end`, "1\n2\n"},
		{`$n = 2; while $n do write $n; $n = $n - 1 end`, "2\n1\n"},
		{`for $n = 1 to 3 do exit end; write "no"`, ""},
		{`write $none; write "on"`, "on\n  Error -101: line 1: variable $none has no value\n  Hint: give it a value first: $none = ...\n"},
		{`$a = 1 / 0`, "  Error -101: line 1: division by 0\n"},
		{`$a = 9223372036854775807 + 1`, "  Error -101: line 1: 9223372036854775807 + 1 is too large\n"},
		{`$a = 4611686018427387904 * 2`, "  Error -101: line 1: 4611686018427387904 * 2 is too large\n"},
		{`$a = "x" - 1`, "  Error -101: line 1: - between \"x\" and \"1\", which are not both numbers\n"},
		{`for $n = 1 to 5 step 0 do write 1 end`, "  Error -101: line 1: FOR with STEP 0 would never end\n"},
		{`while $none do end`, "  Error -101: line 1: variable $none has no value\n  Hint: give it a value first: $none = ...\n"},
		{`$e = getenvstr "NAME"; write $e`, "value of NAME\n"},
		{`getenvstr("NAME") $f; write $f`, "value of NAME\nvalue of NAME\n"},
		{`setlocal waitunit = 2; getlocal WAITUNIT`, "  WaitUnit = 2\n"},
		{`setlocal waitunit = 0`, "  Error -135: line 1: WaitUnit: a number from 1 to 86400000\n"},
		{`getlocal x`, "  Error -116: line 1: the shell has no setting x\n  Hint: known are ClientLog, StopOnError, Strict, WaitUnit\n"},
		{`setlocal stoponerror 1; write $none2; write 1`, "  Error -101: line 1: variable $none2 has no value\n  Hint: give it a value first: $none2 = ...\n"},
	} {
		s := newShell(t, &fakeNode{}, func(c *Config) { c.Getenv = func(k string) string { return "value of " + k } })
		if got := s.run(c.in); got != c.want {
			t.Errorf("%s\n got %q\nwant %q", c.in, got, c.want)
		}
	}
}

// TestConnectFlags: what CONNECT asks of the node, and what it refuses to leave out.
func TestConnectFlags(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`connect p to o map /a to /b, map /c to /d`, `{"set":"p","rules":[],"target":"o","address":"","map":{"/a":"/b","/c":"/d"}}`},
		{`connect p to o map /a to /b, "/c" to "/d" nomirror`, `{"set":"p","rules":[],"target":"o","address":"","map":{"/a":"/b","/c":"/d"},"mirror":"none"}`},
		{`connect p to o mirror different, checksum`, `{"set":"p","rules":[],"target":"o","address":"","adopt":true,"mirror":"diff","checksum":true}`},
		{`connect p to o map base /x clean replicate`, `{"set":"p","rules":[],"target":"o","address":"","base":"/x"}`},
		{`connect p to o newer, orphans`, `"adopt":true,"mirror":"diff","newer":true,"orphans":true}`},
		{`connect p to o nomirror`, `{"set":"p","rules":[],"target":"o","address":"","mirror":"none"}`},
		{`connect p to o noreplicate`, `{"set":"p","rules":[],"target":"o","address":"","no_replication":true}`},
		{`connect p to o nomirror checksum`, "NOMIRROR and CHECKSUM exclude each other"},
		{`connect p to o noorphans orphans`, "ORPHANS and NOORPHANS exclude each other"},
		{`connect p to o map exact map /a to /b`, "exclude each other"},
		{`connect p to o map /a to /b map /a to /c`, "/a is mapped to /b and to /c"},
	} {
		s := newShell(t, &fakeNode{}, nil)
		script, err := syntax.Parse(c.in)
		if err != nil {
			t.Fatal(err)
		}
		req, err := s.in.connectRequest(script[0].(*syntax.Call))
		raw, _ := json.Marshal(req)
		if got := fmt.Sprint(string(raw), err); !strings.Contains(got, c.want) {
			t.Errorf("%s\n got %s\nwant %s", c.in, got, c.want)
		}
	}
}

// TestTwoEditors: B5.50, the second save of two that began at one generation is
// refused; after RESYNC it succeeds.
func TestTwoEditors(t *testing.T) {
	n := &fakeNode{sets: map[string]repset.Set{}}
	a, b := newShell(t, n, nil), newShell(t, n, nil)
	a.run("repset create tree; repset rule add /srv; repset save")
	b.run("repset rule add /srv/b exclude to tree")
	if got := a.run("repset rule add /srv/a exclude; repset save"); got != "" {
		t.Fatal(got)
	}
	if got := b.run("repset save tree"); !strings.Contains(got, "Error -130") || !strings.Contains(got, "changed by someone else") {
		t.Errorf("second save: %q", got)
	}
	if got := b.run("repset resync tree; repset rule add /srv/b exc to tree; repset save tree"); got != "" {
		t.Error(got)
	}
	if s := n.sets["tree"]; s.Generation != 3 || len(s.Rules) != 3 {
		t.Errorf("stored %+v", s)
	}
}

func TestUnsavedIsNotConnected(t *testing.T) {
	n := &fakeNode{sets: map[string]repset.Set{}}
	s := newShell(t, n, nil)
	if got := s.run("repset create tree; connect tree to jersey"); !strings.Contains(got, "Error -144") {
		t.Error(got)
	}
	if got := s.run("repset rule add /srv; repset save; repset rule add /srv/x exc; connect tree to jersey"); !strings.Contains(got, "Error -129") {
		t.Error(got)
	}
	if got := s.run("repset save; $c = connect tree to jersey; write $c"); got != "3\n" {
		t.Error(got)
	}
}

// TestInterruptedWait: the end of the context ends a wait at once, and the statement
// after it is not run.
func TestInterruptedWait(t *testing.T) {
	n := &fakeNode{cons: []control.Connection{{ID: 1, Mirror: "Mirroring"}}, hang: true}
	for _, text := range []string{"waitonmirror 1; write 1", "wait 1 hours; write 1", "while 1 do end; write 1"} {
		s := newShell(t, n, nil)
		script, err := syntax.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.in.Run(ctx, script) }()
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) || s.out.Len() > 0 || s.in.ExitCode(err) != ExitInterrupted {
				t.Errorf("%s: %v, %q", text, err, &s.out)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s goes on", text)
		}
	}
}

func TestStoppedMirrorIsNoSuccess(t *testing.T) {
	n := &fakeNode{cons: []control.Connection{{ID: 1, Mirror: "Remirror required"}, {ID: 2, Mirror: "Idle"}}}
	s := newShell(t, n, func(c *Config) { c.JSON = true })
	if got := s.run("$r = waitonmirror 1; write $r; $r = waitonmirror 2; write $r"); !strings.Contains(got, `"code":-121`) || !strings.HasSuffix(got, "{\"value\":-121}\n{\"value\":1}\n") {
		t.Error(got)
	}
	for _, line := range strings.Split(strings.TrimSpace(s.run("status con 1; status; repset list; help; help wait; status con 9; timenow")), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
}
