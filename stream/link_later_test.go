package stream

import (
	"os"
	"testing"
	"time"
)

// TestLinkComesLater: a link that is dialled while its peer is down is there at once,
// and up when the peer is; subscriptions made meanwhile work.
func TestLinkComesLater(t *testing.T) {
	dst := startServer(t, ServerConfig{Name: "beta", Listen: "127.0.0.1:0", Keys: testKeys().beta})
	p := newProxy(t, dst.Addr().String())
	p.cut(true)
	began := time.Now()
	cfg := linkTo(p.addr())
	cfg.Later = true
	l, err := Dial(testCtx(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
	if l.Up() || l.Generation() != 0 {
		t.Fatal("up before it can be")
	}
	got := make(chan string, 1)
	stop, err := l.Subscribe(AckSubject("alpha", "c", 1), func(b []byte) {
		select {
		case got <- string(b):
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	p.heal()
	eventually(t, "the link is up", func() bool { return l.Up() && l.Generation() == 1 })
	eventually(t, "a message arrives", func() bool {
		if err := dst.Publish(AckSubject("alpha", "c", 1), []byte("hello")); err != nil {
			t.Fatal(err)
		}
		return len(got) > 0
	})
	p.cut(false)
	eventually(t, "the link is up again", func() bool { return l.Up() && l.Generation() > 1 })
}

// TestRefusedConnectionsAreClosed: the peer is there and its messaging server is not.
// However often the link tries, it keeps no descriptor of an attempt.
func TestRefusedConnectionsAreClosed(t *testing.T) {
	dst, p, l := linked(t)
	descriptors := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	const slack = 16 // attempts under way, at both ends and in the proxy
	before := descriptors()
	dst.ns.Load().Shutdown()
	_, from := p.connections()
	eventually(t, "many attempts", func() bool {
		_, n := p.connections()
		return n >= from+3*slack
	})
	if now := descriptors(); now > before+slack {
		t.Errorf("%d descriptors, %d before", now, before)
	}
	l.Close()
}
