package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/access"
)

// TestPermissionMatrix: every verb, asked by everybody who can come in, in every way, is
// carried out or refused as the table says. The request itself is nonsense: who may call
// the verb learns that, who may not is told so before anybody looks at it.
func TestPermissionMatrix(t *testing.T) {
	p := &pair{t: t, base: t.TempDir()}
	n := p.start("jersey")
	t.Cleanup(p.stop)
	stranger, err := access.Open(filepath.Join(p.base, "ring"), "oslo")
	must(t, err)
	peer, err := access.Open(filepath.Join(p.base, "peer"), "indy")
	must(t, err)
	must(t, n.keys.AddPeer("indy", "", peer.Key()))
	accept := control.AcceptKeys(n.keys.Key())
	logins := map[string]struct {
		login control.Login
		level control.Level
	}{
		"local admin":    {control.Login{Token: n.gate.tokens.of(access.Admin)}, control.Admin},
		"local monitor":  {control.Login{Token: n.gate.tokens.of(access.Monitor)}, control.Monitor},
		"key admin":      {control.Login{Key: key(t, n, "a", access.Admin)}, control.Admin},
		"key monitor":    {control.Login{Key: key(t, n, "m", access.Monitor)}, control.Monitor},
		"guest":          {control.Login{}, control.None},
		"paired machine": {control.Login{Machine: peer}, control.None},
	}
	asked := 0
	for name, l := range logins {
		l.login.Accept = accept
		c, err := control.Dial(t.Context(), n.Addr(), "jersey", l.login)
		must(t, err)
		for _, v := range control.Verbs {
			err := c.Call(t.Context(), v.Name, "nonsense", nil)
			var ce *control.Error
			if !errors.As(err, &ce) {
				t.Fatalf("%s calls %s: %v", name, v.Name, err)
			}
			machine := l.login.Machine != nil
			want := control.Denied
			if v.Level <= l.level {
				want = control.BadRequest
			}
			if ce.Code != want {
				t.Errorf("%s calls %s (%s): %v, want %s (machine %t)", name, v.Name, v.Level, err, want, machine)
			}
			asked++
		}
		c.Close()
	}
	for name, login := range map[string]control.Login{
		"unpaired machine": {Machine: stranger}, "old token": {Token: "AAAAAAAAAAAAAAAAAAAAAAAAAA"}, "unknown key": {Key: unknownKey(t, p.base)},
		"password without a checker": {User: "root", Password: "x"}, "invited by nobody": {User: control.InvitedUser, Password: "x", Machine: stranger},
	} {
		login.Accept = accept
		c, err := control.Dial(t.Context(), n.Addr(), "jersey", login)
		if err == nil {
			c.Close()
		}
		wantCode(t, err, control.Denied)
		t.Logf("%s: %v", name, err)
	}
	_, err = control.Dial(t.Context(), n.Addr(), "jersey", control.Login{Token: n.gate.tokens.of(access.Admin), Accept: control.AcceptKeys(stranger.Key())})
	wantCode(t, err, control.Denied) // the client refuses a node it does not know
	t.Logf("%d requests", asked)
}

func key(t *testing.T, n *Node, name string, level access.Level) *access.KeyFile {
	t.Helper()
	f, err := n.keys.AddScript(name, level, n.Addr())
	must(t, err)
	return &f
}

func unknownKey(t *testing.T, base string) *access.KeyFile {
	t.Helper()
	other, err := access.Open(filepath.Join(base, "other"), "other")
	must(t, err)
	f, err := other.AddScript("x", access.Admin, "")
	must(t, err)
	return &f
}

// unpaired is two running nodes that do not know each other.
func unpaired(t *testing.T) (p *pair, indy, jersey *Node) {
	t.Helper()
	p = &pair{t: t, base: t.TempDir()}
	t.Cleanup(p.stop)
	jersey = p.start("jersey")
	p.nodes = nil // the next one is not introduced
	return p, p.start("indy"), jersey
}

func invite(t *testing.T, n *Node, valid time.Duration) string {
	t.Helper()
	reply, err := n.invite(t.Context(), control.InviteRequest{ValidMS: valid.Milliseconds()})
	must(t, err)
	return reply.(control.InviteReply).Code
}

func joinWith(n *Node, addr, code string) error {
	_, err := n.joinPeer(context.Background(), control.JoinRequest{Address: addr, Code: code})
	return explain(err)
}

// TestPairing: a code pairs two machines once; a wrong, used or expired one, or one of
// another machine, pairs nobody.
func TestPairing(t *testing.T) {
	t.Parallel() // it waits for the brake on wrong codes
	p, indy, jersey := unpaired(t)
	wrong := access.NewCode(jersey.keys.Key()).String()
	wantCode(t, joinWith(indy, jersey.Addr(), wrong), control.Denied)
	expired := invite(t, jersey, time.Millisecond)
	waitFor(t, "the code to expire", func() bool { return jersey.gate.invites.Open() == 0 })
	wantCode(t, joinWith(indy, jersey.Addr(), expired), control.Denied)
	code := invite(t, jersey, 0)
	wantCode(t, joinWith(indy, indy.Addr(), code), control.Denied)         // the address of another machine
	wantCode(t, joinWith(jersey, jersey.Addr(), code), control.BadRequest) // by the one who made it
	if len(indy.keys.Peers())+len(jersey.keys.Peers()) != 0 {
		t.Fatal("something was paired")
	}
	must(t, joinWith(indy, jersey.Addr(), code))
	if a, b := indy.keys.Peers(), jersey.keys.Peers(); len(a) != 1 || len(b) != 1 || a[0].Name != "jersey" || b[0].Name != "indy" ||
		a[0].Keys[0] != jersey.keys.Key() || b[0].Keys[0] != indy.keys.Key() || b[0].Address != indy.Addr() {
		t.Fatalf("paired %+v, %+v", a, b)
	}
	p.nodes = nil
	oslo := p.start("oslo")
	wantCode(t, joinWith(oslo, jersey.Addr(), code), control.Denied)
	wantCode(t, joinWith(indy, jersey.Addr(), code), control.Denied)
	again := invite(t, jersey, 0) // known machines may pair again
	must(t, joinWith(indy, jersey.Addr(), again))
}

// TestManInTheMiddle: who stands between two machines, with a key of its own, gets
// neither the secret of a code nor any word of paired machines.
func TestManInTheMiddle(t *testing.T) {
	_, indy, jersey := unpaired(t)
	m := newMiddle(t, jersey.Addr())
	err := joinWith(indy, m.addr(), invite(t, jersey, 0))
	wantCode(t, err, control.Denied)
	if !strings.Contains(err.Error(), "somebody in between") {
		t.Error(err)
	}
	must(t, joinWith(indy, jersey.Addr(), invite(t, jersey, 0)))
	_, err = indy.Connect(t.Context(), control.ConnectRequest{Set: "x", Rules: []string{t.TempDir() + " inc, rec"}, Target: "jersey",
		Address: m.addr(), Base: t.TempDir(), Capture: "inotify"})
	wantCode(t, err, control.Denied)
	if !strings.Contains(err.Error(), "what answers is not jersey") {
		t.Error(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tries < 2 || m.heard.Len() > 0 {
		t.Errorf("the man in the middle was called %d times and heard %q", m.tries, m.heard.String())
	}
}

// middle ends TLS with a key of its own and records what it is told.
type middle struct {
	ln    net.Listener
	mu    sync.Mutex // guards what follows
	heard bytes.Buffer
	tries int
}

func (m *middle) addr() string { return m.ln.Addr().String() }

func newMiddle(t *testing.T, _ string) *middle {
	t.Helper()
	ring, err := access.Open(t.TempDir(), "middle")
	must(t, err)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", ring.ServerTLS())
	must(t, err)
	m := &middle{ln: ln}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			m.mu.Lock()
			m.tries++
			m.mu.Unlock()
			wait.Go(func() { m.listen(conn) })
		}
	})
	t.Cleanup(func() { ln.Close(); wait.Wait() })
	return m
}

func (m *middle) listen(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = fmt.Fprintf(conn, "INFO {\"nonce\":\"x\",\"max_payload\":1048576,\"headers\":true,\"proto\":1}\r\n")
	got, _ := io.ReadAll(conn)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard.Write(got)
}

// TestRemovedPeerIsCutOff: when a pairing is removed, on either side, the sessions of
// the machine end at once, and do not come back until it is paired again.
func TestRemovedPeerIsCutOff(t *testing.T) {
	for _, side := range []string{"target", "source"} {
		t.Run(side, func(t *testing.T) {
			p := newPair(t, false)
			must(t, os.WriteFile(p.dir+"/file", []byte("before"), 0o600))
			p.connect()
			p.settle()
			here, gone := p.target, "indy"
			if side == "source" {
				here, gone = p.source, "jersey"
			}
			_, err := here.removePeer(t.Context(), control.NameRequest{Name: gone})
			must(t, err)
			waitFor(t, "the session to end", func() bool {
				for _, c := range p.target.srv.Callers() {
					if c.Kind == access.Machine {
						return false
					}
				}
				return p.source.Status().Connections[0].TargetState == "Unreachable"
			})
			must(t, os.WriteFile(p.dir+"/file", []byte("after!"), 0o600))
			_, err = here.removePeer(t.Context(), control.NameRequest{Name: gone})
			wantCode(t, err, control.NotFound)
			if got, _ := os.ReadFile(p.replica + "/file"); string(got) != "before" {
				t.Fatalf("the replica has %q", got)
			}
			must(t, PairUp(p.source, p.target))
			p.settled()
			p.same()
		})
	}
}

// settled waits until the connection is at work again and everything is applied.
func (p *pair) settled() {
	p.t.Helper()
	waitFor(p.t, "the connection to settle", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return p.source.Settle(ctx, p.id) == nil
	})
}

// TestRotationWhileConnected: both machines change their keys under load; nothing is
// lost, no session ends, and new connections are made with the new keys.
func TestRotationWhileConnected(t *testing.T) {
	p := newPair(t, false)
	p.connect()
	p.settle()
	must(t, PairUp(p.source, p.target)) // with the addresses known by now
	epoch := p.source.Status().Connections[0].Epoch
	for round, n := range []*Node{p.target, p.source, p.target} {
		before := n.keys.Key()
		must(t, os.WriteFile(fmt.Sprintf("%s/file%d", p.dir, round), bytes.Repeat([]byte("x"), 1<<20), 0o600))
		_, err := n.rotate(t.Context(), control.RotateRequest{})
		must(t, err)
		waitFor(t, "the new key", func() bool { n.goOnRotating(t.Context()); return n.keys.Key() != before })
		p.target.srv.Drop(func(c access.Caller) bool { return c.Kind == access.Machine }) // they come back with the new keys
		p.settled()
	}
	if got := p.source.Status().Connections[0].Epoch; got != epoch {
		t.Errorf("epoch %s became %s", epoch, got)
	}
	p.same()
	for _, peers := range [][]access.Peer{p.source.keys.Peers(), p.target.keys.Peers()} {
		if len(peers) != 1 || len(peers[0].Keys) != 1 {
			t.Errorf("old keys are still taken: %+v", peers)
		}
	}
}

// TestNothingReadableOnTheLine: a recording of everything two paired machines say holds
// neither names nor content of files, mirrored or replicated.
func TestNothingReadableOnTheLine(t *testing.T) {
	p := newPair(t, false)
	rec := newRecorder(t, p.target.Addr())
	t.Cleanup(p.stop) // before the recorder waits for the end of what it carries
	const canary = "a-canary-in-the-coal-mine"
	must(t, os.WriteFile(p.dir+"/"+canary, []byte(strings.Repeat(canary, 1000)), 0o600))
	req := control.ConnectRequest{Set: canary, Rules: []string{p.dir + " inc, rec"}, Target: "jersey", Address: rec.ln.Addr().String(),
		Map: map[string]string{p.dir: p.replica}, Capture: "inotify"}
	var err error
	p.id, err = p.source.Connect(t.Context(), req)
	must(t, err)
	p.settle()
	must(t, os.WriteFile(p.dir+"/later", []byte(strings.Repeat(canary, 1000)), 0o600))
	p.settle()
	p.same()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.said.Len() < len(canary)*1000 {
		t.Fatalf("only %d bytes were recorded", rec.said.Len())
	}
	for _, text := range []string{canary, "INFO {", "CONNECT {", "PUB ", "jersey", "rq.join"} {
		if bytes.Contains(rec.said.Bytes(), []byte(text)) {
			t.Errorf("%q is readable in %d bytes", text, rec.said.Len())
		}
	}
	t.Logf("%d bytes recorded", rec.said.Len())
}

// recorder forwards connections and records what is said.
type recorder struct {
	ln   net.Listener
	mu   sync.Mutex // guards said
	said bytes.Buffer
}

func newRecorder(t *testing.T, to string) *recorder {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &recorder{ln: ln}
	var wait sync.WaitGroup
	carry := func(from, to net.Conn) {
		defer from.Close()
		defer to.Close()
		_, _ = io.Copy(io.MultiWriter(to, r), from)
	}
	wait.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			wait.Go(func() { carry(in, out) })
			wait.Go(func() { carry(out, in) })
		}
	})
	t.Cleanup(func() { ln.Close(); wait.Wait() })
	return r
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.Write(b)
}
