// Package wire looks at what two paired machines say to each other, from beside the wire.
package wire

import (
	"context"
	"crypto/rand"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"understudy/control"
	"understudy/internal/stories"
	"understudy/internal/testnode"
	"understudy/node"
)

const patience = stories.Patience

func TestMain(m *testing.M) { stories.Main(m, nil) }

var must, waitFor = stories.Must, stories.WaitFor

// machine is a daemon on one side of the wire.
type machine struct {
	*stories.Machine
	addr string // from the other side
}

// call asks a machine from a side of the wire.
func call(t *testing.T, from *testnode.Namespace, m *machine, address string, l control.Login, verb string, req, reply any) error {
	t.Helper()
	local, err := control.ReadLocal(m.Cfg.Data)
	must(t, err)
	l.Accept = control.AcceptKeys(local.Keys...)
	if l.User == "" && l.Key == nil {
		l.Token = local.Token
	}
	return from.Do(func() error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := control.Dial(ctx, address, m.Cfg.Name, l)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Call(ctx, verb, req, reply)
	})
}

// TestNothingReadableOnTheWire: while a pair mirrors, replicates, is steered from the
// other machine and logged in to, no content, no name and no password of it passes the
// wire in the clear. The same listener hears each of them when it is sent without TLS.
func TestNothingReadableOnTheWire(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces and a packet socket")
	}
	base := t.TempDir()
	w := testnode.NewWire(t)
	s := sniff(t, w.A, "wire")
	canary := map[string]string{}
	for _, what := range []string{"content", "file name", "directory", "set", "password", "content of a change", "name of a change"} {
		canary[what] = "canary" + rand.Text()
	}
	tree, copied := filepath.Join(base, canary["directory"]), filepath.Join(base, "copied")
	must(t, os.Mkdir(tree, 0o755))
	write(t, filepath.Join(tree, canary["file name"]), canary["content"])
	side := func(name string, ns *testnode.Namespace, at testnode.Side) *machine {
		return &machine{stories.NewMachine(t, ns, name, filepath.Join(base, name)), w.Addr(at) + ":" + node.DefaultPort}
	}
	indy, jersey := side("indy", w.A, testnode.SideA), side("jersey", w.B, testnode.SideB)
	stories.Introduce(t, indy.Machine, jersey.Machine)
	jersey.Start()
	indy.Start()

	// From beside the target, so that requests pass the wire.
	ask := func(verb string, req, reply any) {
		t.Helper()
		must(t, call(t, w.B, indy, indy.addr, control.Login{}, verb, req, reply))
	}
	var con control.ConnectReply
	ask("connect", control.ConnectRequest{Set: canary["set"], Rules: []string{`"` + tree + `" inc, rec`}, Target: "jersey", Address: jersey.addr,
		Map: map[string]string{tree: copied}}, &con)
	settle := control.SettleRequest{ID: con.ID, TimeoutMS: patience.Milliseconds()}
	ask("settle", settle, nil)
	write(t, filepath.Join(tree, canary["name of a change"]), canary["content of a change"])
	ask("settle", settle, nil)
	if err := call(t, w.B, indy, indy.addr, control.Login{User: "nobody-here", Password: canary["password"]}, "status", struct{}{}, nil); err == nil {
		t.Fatal("a login without a checker succeeded")
	}
	got, err := os.ReadFile(filepath.Join(copied, canary["name of a change"]))
	must(t, err)
	waitFor(t, "the transfer to pass the listener", func() bool { _, total := s.has(""); return total > len(got) })
	for what, text := range canary {
		if found, _ := s.has(text); found {
			t.Errorf("the %s passes in the clear", what)
		}
	}
	_, total := s.has("")
	if lost := s.lost(t); lost > 0 {
		t.Errorf("%d frames were not seen", lost)
	}
	t.Logf("%d bytes listened to", total)

	// The listener would have noticed.
	inTheClear(t, w, canary)
	for what, text := range canary {
		waitFor(t, "the listener to hear the "+what, func() bool { found, _ := s.has(text); return found })
	}
}

// write makes a file of some 400 KB that says little but one text, and cannot be packed
// much: every line is another.
func write(t *testing.T, path, text string) {
	t.Helper()
	var b []byte
	for range 5000 {
		b = append(append(append(b, text...), rand.Text()...), '\n')
	}
	must(t, os.WriteFile(path, b, 0o644))
}

// inTheClear sends all texts from A to B without TLS.
func inTheClear(t *testing.T, w *testnode.Wire, texts map[string]string) {
	t.Helper()
	var l net.Listener
	must(t, w.B.Do(func() (err error) { l, err = net.Listen("tcp", "0.0.0.0:7000"); return err }))
	defer l.Close()
	heard := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(io.Discard, c)
			_ = c.Close()
		}
		heard <- err
	}()
	must(t, w.A.Do(func() error {
		c, err := net.DialTimeout("tcp", w.Addr(testnode.SideB)+":7000", patience)
		if err != nil {
			return err
		}
		for _, text := range texts {
			if _, err := io.WriteString(c, text+"\n"); err != nil {
				return err
			}
		}
		return c.Close()
	}))
	must(t, <-heard)
}
