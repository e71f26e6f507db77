package stream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"understudy/internal/access"
)

// raw is alpha's way to beta without the courtesy of Link: any subject, any reply.
func raw(t *testing.T, addr string) *nats.Conn {
	t.Helper()
	session := rand.Text()
	cfg := linkTo(addr)
	nc, err := nats.Connect("nats://"+addr, nats.Name(session), nats.CustomInboxPrefix(inboxOf(session)), nats.NoReconnect(),
		nats.SetCustomDialer(&linkDialer{cfg: &cfg, at: func() string { return addr }}), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// TestHostileSourceTouchesNoOther: whatever a paired source says, the queue of another
// source, the store's own interface and other machines' requests stay as they were.
func TestHostileSourceTouchesNoOther(t *testing.T) {
	s := startServer(t, ServerConfig{Name: "beta", Listen: "127.0.0.1:0", Keys: testKeys().beta})
	victim := openReceiver(t, s, ReceiverConfig{Source: "gamma", Connection: "accounts"})
	own := openReceiver(t, s, ReceiverConfig{Source: "alpha", Connection: "accounts"})
	if _, err := victim.st.js.Publish(testCtx(t), victim.st.subject, []byte("of gamma")); err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 100)
	for _, subject := range []string{"rq.>", "ctl.>", "m.gamma.>", "hb.gamma", "q.>", "ack.>"} {
		if _, err := s.ctl.Subscribe(subject, func(m *nats.Msg) { heard <- m.Subject }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.ctl.Flush(); err != nil {
		t.Fatal(err)
	}
	api := "$JS.API.STREAM.PURGE." + victim.st.name
	for _, c := range []struct{ subject, reply string }{
		{victim.st.subject, ""}, {"m.gamma.accounts.5eed", ""}, {"hb.gamma", ""}, {"hb.beta", ""}, {"ack.gamma.accounts.5eed", ""},
		{"rq.last.gamma.accounts.5eed", ""}, {"rq.list.gamma.accounts", ""}, {"ctl.beta.mount", ""}, {"pair.join", ""},
		{api, ""}, {"$JS.API.STREAM.DELETE." + victim.st.name, ""}, {"$JS.API.STREAM.NAMES", ""}, {"$SYS.REQ.SERVER.PING", ""}, {"$SYS.ACCOUNT.$G.CONNS", ""},
		{"_INBOX.x", ""}, {"q.accounts.5eed", ""},
		{own.st.subject, victim.st.subject}, // the store's answer would be stored there
		{own.st.subject, api}, {own.st.subject, "ctl.beta.mount"}, {own.st.subject, "rq.last.gamma.accounts.5eed"},
	} {
		nc := raw(t, s.Addr().String())
		m := &nats.Msg{Subject: c.subject, Reply: c.reply, Data: []byte("{}")}
		if err := nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
		_ = nc.FlushTimeout(5 * time.Second) // it may be cut for what it said
		nc.Close()
	}
	info, err := victim.st.stream.Info(testCtx(t))
	if err != nil || info.State.Msgs != 1 || info.State.LastSeq != 1 {
		t.Errorf("the queue of another source: %+v, %v", info, err)
	}
	if err := s.ctl.Flush(); err != nil {
		t.Fatal(err)
	}
	for len(heard) > 0 {
		t.Errorf("got through: %s", <-heard)
	}
}

// TestHostileSourceHearsNothing: subscriptions beside a source's own get no message.
func TestHostileSourceHearsNothing(t *testing.T) {
	s := startServer(t, ServerConfig{Name: "beta", Listen: "127.0.0.1:0", Keys: testKeys().beta})
	nc := raw(t, s.Addr().String())
	heard := make(chan string, 100)
	for _, subject := range []string{">", "*.*", "t.>", "ack.>", "ack.gamma.>", "_INBOX.>", "_INBOX.*.*", "$SYS.>", "$JS.>", "ctl.>", "rq.>"} {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) { heard <- m.Subject }); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.FlushTimeout(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"t.gamma.x.1", "ack.gamma.x.1", "_INBOX.AAAA.1", "ctl.beta.status", "rq.last.gamma.x.1"} {
		if err := s.Publish(subject, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.ctl.Flush(), nc.FlushTimeout(5*time.Second)); err != nil {
		t.Fatal(err)
	}
	for len(heard) > 0 {
		t.Errorf("heard %s", <-heard)
	}
}

// TestDropEndsSessionsAtOnce: sessions of a caller end, also one that is just let in.
func TestDropEndsSessionsAtOnce(t *testing.T) {
	keys := testKeys()
	admitted, goOn := make(chan struct{}, 1), make(chan struct{})
	var slow atomic.Bool
	s := startServer(t, ServerConfig{Name: "beta", Listen: "127.0.0.1:0", Keys: keys.beta, Admit: func(_ context.Context, a access.Attempt) (Grant, error) {
		name, _ := keys.beta.Meet(a.Key)
		if slow.Load() { // asked once for each connection of a link
			select {
			case admitted <- struct{}{}:
			default:
			}
			<-goOn
		}
		return PeerGrant(access.Caller{Kind: access.Machine, Name: name, Key: a.Key}, "beta"), nil
	}})
	l := dial(t, s.Addr().String())
	s.Drop(func(c access.Caller) bool { return c.Name == "gamma" })
	if !l.Up() || len(s.Callers()) != 2 {
		t.Fatal("the wrong one was dropped")
	}
	l.Close()
	eventually(t, "sessions to end", func() bool { return len(s.Callers()) == 0 })
	slow.Store(true)
	result := make(chan error, 1)
	go func() {
		l, err := Dial(context.Background(), linkTo(s.Addr().String()))
		if err == nil {
			l.Close()
		}
		result <- err
	}()
	select {
	case <-admitted:
	case <-time.After(deadline):
		t.Fatal("nobody was asked")
	}
	s.Drop(func(c access.Caller) bool { return c.Name == "alpha" })
	close(goOn)
	if err := <-result; !errors.Is(err, ErrRefused) {
		t.Fatalf("one that was being let in: %v", err)
	}
	eventually(t, "nobody to be in", func() bool { return len(s.Callers()) == 0 })
}

// TestStrangersGetNothing: what is no TLS, no introduction or too much of it ends, and
// the door goes on.
func TestStrangersGetNothing(t *testing.T) {
	s := startServer(t, ServerConfig{Name: "beta", Listen: "127.0.0.1:0", Keys: testKeys().beta})
	addr := s.Addr().String()
	for name, text := range map[string]string{
		"plain messaging": "CONNECT {\"name\":\"AAAAAAAAAAAAAAAAAAAAAAAAAA\"}\r\nPING\r\n", "http": "GET / HTTP/1.1\r\n\r\n", "zeros": strings.Repeat("\x00", 5000),
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(text))
		got, _ := io.ReadAll(conn)
		if bytes.Contains(got, []byte("INFO")) {
			t.Errorf("%s: answered %q", name, got)
		}
		conn.Close()
	}
	for name, text := range map[string]string{
		"no introduction": "PUB t.alpha.x.1 0\r\n\r\n", "no session": "CONNECT {}\r\n", "short session": "CONNECT {\"name\":\"x\"}\r\n",
		"session with a wildcard": "CONNECT {\"name\":\"AAAAAAAAAAAAAAAAAAAAAAAAA.>\"}\r\n", "no JSON": "CONNECT nonsense\r\n",
		"endless": "CONNECT " + strings.Repeat("x", 100<<10), "no key": "CONNECT {\"name\":\"AAAAAAAAAAAAAAAAAAAAAAAAAA\"}\r\nPING\r\n",
	} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(deadline))
		_, _ = conn.Write([]byte(text))
		got, _ := io.ReadAll(conn)
		if bytes.Contains(got, []byte("PONG")) || name == "no key" && !bytes.Contains(got, []byte("not paired with beta")) {
			t.Errorf("%s: answered %q", name, got)
		}
		conn.Close()
	}
	if old, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		old.Close()
		t.Error("TLS 1.2 is taken")
	}
	dial(t, addr)
}

// FuzzScreen: what passes is in the form the screen writes, a second screen passes it
// unchanged, and no message with a foreign reply passes.
func FuzzScreen(f *testing.F) {
	inbox := inboxOf("AAAAAAAAAAAAAAAAAAAAAA") + "."
	f.Add([]byte("PUB t.a.b.1 " + inbox + "1 3\r\nabc\r\nPING\r\n"))
	f.Add([]byte("hpub t.a.b.1 _INBOX.other 12 15\r\nNATS/1.0\r\n\r\nabc\r\n"))
	f.Add([]byte("SUB > 1\r\nUNSUB 1\r\nPUB a\t5\nhello\r\n"))
	f.Add([]byte("PUB a 99999999999\r\n"))
	run := func(data []byte) []byte {
		var out bytes.Buffer
		s := screen{in: bufio.NewReaderSize(bytes.NewReader(data), screenBuffer), out: bufio.NewWriter(&out), inbox: []byte(inbox), subs: map[string]bool{}}
		_ = s.run()
		_ = s.out.Flush()
		return out.Bytes()
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		once := run(data)
		if twice := run(once); !bytes.Equal(once, twice) {
			t.Fatalf("%q passes as %q, that as %q", data, once, twice)
		}
	})
}

// FuzzIntroduction: any first line is an introduction or an error.
func FuzzIntroduction(f *testing.F) {
	f.Add([]byte("CONNECT {\"name\":\"AAAAAAAAAAAAAAAAAAAAAAAAAA\",\"user\":\"bob\",\"pass\":\"x\"}\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		intro, err := readIntroduction(bufio.NewReaderSize(bytes.NewReader(data), screenBuffer))
		if err == nil && !sessionForm.MatchString(intro.Name) {
			t.Fatalf("session %q", intro.Name)
		}
	})
}
