package access

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T, name string) *Keyring {
	t.Helper()
	k, err := Open(filepath.Join(t.TempDir(), name), name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestCode: what is printed is read again, in any form; one letter off is noticed.
func TestCode(t *testing.T) {
	k := open(t, "jersey")
	for range 200 {
		c := NewCode(k.Key())
		text := c.String()
		for _, form := range []string{text, strings.ToLower(text), strings.ReplaceAll(text, "-", " ") + "\n"} {
			if got, err := ParseCode(form); err != nil || got != c || !got.Fits(k.Key()) {
				t.Fatalf("%q: %v, %v", form, got, err)
			}
		}
		if c.Fits(open(t, "other").Key()) {
			t.Fatal("fits another key")
		}
	}
}

// TestKeyringOutlivesAndHides: identity, peers and keys are there after a restart, and
// nobody else may read the file.
func TestKeyringOutlivesAndHides(t *testing.T) {
	dir := t.TempDir()
	k, err := Open(dir, "indy")
	if err != nil {
		t.Fatal(err)
	}
	other := open(t, "jersey")
	if err := PairUp(k, other, "10.0.0.1:1", "10.0.0.2:2"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.AddScript("backup", Monitor, "10.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir, "indy")
	if err != nil {
		t.Fatal(err)
	}
	if again.Key() != k.Key() || len(again.Peers()) != 1 || again.Peers()[0].Address != "10.0.0.2:2" || len(again.Scripts()) != 1 {
		t.Fatalf("%+v", again.Peers())
	}
	st, err := os.Stat(filepath.Join(dir, keyringFile))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", st.Mode(), err)
	}
}

// TestPeerNamesAreBoundToKeys: a machine of a known name with another key, and a known
// key under another name, are refused.
func TestPeerNamesAreBoundToKeys(t *testing.T) {
	k, a, b := open(t, "indy"), open(t, "jersey"), open(t, "imposter")
	if err := k.AddPeer("jersey", "", a.Key()); err != nil {
		t.Fatal(err)
	}
	if err := k.AddPeer("JERSEY", "", b.Key()); !errors.Is(err, ErrNameTaken) {
		t.Fatal(err)
	}
	if err := k.AddPeer("oslo", "", a.Key()); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	if err := k.AddPeer("oslo", "", k.Key()); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	if err := k.AddPeer("Indy", "", b.Key()); !errors.Is(err, ErrNameTaken) {
		t.Fatal(err)
	}
}

// TestInvitations: a code works once, in its time, and only the one who used it may
// complete the pairing.
func TestInvitations(t *testing.T) {
	now := time.Unix(1e9, 0)
	i := NewInvites()
	i.now = func() time.Time { return now }
	a, b := Fingerprint{1}, Fingerprint{2}
	c, err := i.Make(Fingerprint{9}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		what string
		do   func() error
		ok   bool
	}{
		{"wrong secret", func() error { return i.Take("AAAA", a) }, false},
		{"right secret", func() error { return i.Take(c.Password(), a) }, true},
		{"again by the same", func() error { return i.Take(c.Password(), a) }, false},
		{"by another", func() error { return i.Take(c.Password(), b) }, false},
		{"completed by another", func() error { return i.Complete(b) }, false},
		{"completed", func() error { return i.Complete(a) }, true},
		{"completed twice", func() error { return i.Complete(a) }, false},
	}
	for _, s := range steps {
		if err := s.do(); (err == nil) != s.ok || err != nil && !errors.Is(err, ErrInvite) {
			t.Errorf("%s: %v", s.what, err)
		}
	}
	late, err := i.Make(Fingerprint{9}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute + time.Second)
	if err := i.Take(late.Password(), a); !errors.Is(err, ErrInvite) {
		t.Errorf("expired: %v", err)
	}
	for range maxInvites {
		if _, err := i.Make(a, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := i.Make(a, time.Minute); !errors.Is(err, ErrInvites) {
		t.Errorf("one more: %v", err)
	}
}

// TestGuessesAreSlowedDown: each failure doubles the wait of the same address, up to a
// bound, and of no other; a success in between forgives nothing.
func TestGuessesAreSlowedDown(t *testing.T) {
	now := time.Unix(1e9, 0)
	var waited time.Duration
	th := NewThrottle()
	th.now = func() time.Time { return now }
	th.sleep = func(_ context.Context, d time.Duration) error { waited = d; now = now.Add(d); return nil }
	from := func(text string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(text), Port: 1} }
	wrong := errors.New("wrong")
	for _, want := range []time.Duration{0, firstDelay, 2 * firstDelay, 4 * firstDelay, 8 * firstDelay, maxDelay, maxDelay} {
		waited = 0
		if err := th.Try(t.Context(), from("192.0.2.1"), func() error { return wrong }); err != wrong || waited != want {
			t.Fatalf("waited %v, want %v (%v)", waited, want, err)
		}
	}
	waited = 0
	if err := th.Try(t.Context(), from("192.0.2.2"), func() error { return nil }); err != nil || waited != 0 {
		t.Fatalf("another address waited %v, %v", waited, err)
	}
	_ = th.Try(t.Context(), from("192.0.2.1"), func() error { return nil })
	waited = 0
	_ = th.Try(t.Context(), from("192.0.2.1"), func() error { return wrong })
	if waited = 0; th.Try(t.Context(), from("192.0.2.1"), func() error { return wrong }) != wrong || waited != maxDelay {
		t.Fatalf("a success forgave: waited %v", waited)
	}
	for i := range maxAddresses + 100 {
		_ = th.Try(t.Context(), from(fmt.Sprintf("10.1.%d.%d", i/250, i%250)), func() error { return wrong })
	}
	if len(th.table) > maxAddresses+1 {
		t.Fatalf("%d addresses are remembered", len(th.table))
	}
}

// TestRotation: both keys of a machine are taken while it changes; then the old one is not.
func TestRotation(t *testing.T) {
	a, b := open(t, "indy"), open(t, "jersey")
	if err := PairUp(a, b, "", ""); err != nil {
		t.Fatal(err)
	}
	before := a.Key()
	next, err := a.BeginRotation()
	if err != nil {
		t.Fatal(err)
	}
	if done, err := a.FinishRotation(false); done || err != nil {
		t.Fatalf("finished before anybody knew: %v", err)
	}
	if err := b.PeerChanges("indy", Fingerprint{7}, next); !errors.Is(err, ErrNotPaired) {
		t.Fatalf("a stranger's next key: %v", err)
	}
	if err := errors.Join(b.PeerChanges("indy", before, next), a.PeerTold("jersey", next)); err != nil {
		t.Fatal(err)
	}
	if name, ok := b.Meet(before); !ok || name != "indy" {
		t.Fatal("the old key is refused before the change")
	}
	if done, err := a.FinishRotation(false); !done || err != nil || a.Key() != next {
		t.Fatalf("not finished: %v", err)
	}
	if name, ok := b.Meet(next); !ok || name != "indy" {
		t.Fatal("the new key is refused")
	}
	if _, ok := b.MachineOf(before); ok {
		t.Fatal("the old key is still taken")
	}
}

// FuzzCode: any text is a code that prints as the same one, or an error.
func FuzzCode(f *testing.F) {
	f.Add(NewCode(Fingerprint{1}).String())
	f.Add("AAAAA-BBBBB")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCode(text)
		if err != nil {
			return
		}
		if again, err := ParseCode(c.String()); err != nil || again != c {
			t.Fatalf("%q: %v, %v", text, again, err)
		}
	})
}

// FuzzKeyring: any bytes are a keyring or an error.
func FuzzKeyring(f *testing.F) {
	f.Add([]byte(`{"version":1,"current":{"seed":"AA==","cert":"AA=="},"peers":[{"name":"x","keys":[]}]}`))
	f.Fuzz(func(_ *testing.T, raw []byte) { _, _ = parseKeyring(raw) })
}
