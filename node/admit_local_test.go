package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"understudy/control"
	"understudy/internal/access"
)

// TestLocalTokenEndsWithMembership: who has read the token of local programs and leaves
// the group cannot go on with it; programs that may read the file log in again.
func TestLocalTokenEndsWithMembership(t *testing.T) {
	p := &pair{t: t, base: t.TempDir()}
	n := p.start("jersey")
	t.Cleanup(p.stop)
	groups := filepath.Join(p.base, "group")
	write := func(s string) { must(t, os.WriteFile(groups, []byte(s), 0o600)) }
	write("root:x:0:\ndtadmin:x:990:bob,eve\n")
	n.gate.tokens.file = groups
	n.gate.tokens.changed(nil)
	n.recheckLocal()
	kept := n.gate.tokens.of(access.Admin)
	login := control.Login{Token: kept, Accept: control.AcceptKeys(n.keys.Key())}
	eve, err := control.Dial(t.Context(), n.Addr(), "jersey", login)
	must(t, err)
	defer eve.Close()

	write("root:x:0:\nother:x:7:eve\ndtadmin:x:990:bob,eve\n") // concerns nobody here
	n.recheckLocal()
	must(t, eve.Call(t.Context(), "status", struct{}{}, nil))
	write("root:x:0:\ndtadmin:x:990:bob\n")
	n.recheckLocal()
	if err := eve.Call(t.Context(), "status", struct{}{}, nil); err == nil {
		t.Error("the session goes on")
	}
	if _, err := control.Dial(t.Context(), n.Addr(), "jersey", login); err == nil {
		t.Error("the old token is accepted")
	}
	c, err := control.DialLocal(t.Context(), n.cfg.Data)
	must(t, err)
	defer c.Close()
	must(t, c.Call(t.Context(), "status", struct{}{}, nil))
}

// TestEndedCallBlamesNobody: who ends a call himself is not asked whether the daemon runs.
func TestEndedCallBlamesNobody(t *testing.T) {
	p := &pair{t: t, base: t.TempDir()}
	n := p.start("jersey")
	t.Cleanup(p.stop)
	c, err := control.DialLocal(t.Context(), n.cfg.Data)
	must(t, err)
	defer c.Close()
	ended, end := context.WithCancel(t.Context())
	end()
	err = c.Call(ended, "status", struct{}{}, nil)
	if e := new(control.Error); !errors.Is(err, context.Canceled) || errors.As(err, &e) {
		t.Errorf("a call that the caller ended blames the daemon: %v", err)
	}
}
