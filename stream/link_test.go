package stream

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"understudy/internal/access"
)

func linked(t *testing.T) (*Server, *proxy, *Link) {
	s := startServer(t, ServerConfig{Listen: "127.0.0.1:0", Keys: testKeys().beta})
	p := newProxy(t, s.Addr().String())
	return s, p, dial(t, p.addr())
}

func TestRequestAndReply(t *testing.T) {
	s, _, l := linked(t)
	stop, err := s.Handle("rq.echo.alpha.x", func(_ context.Context, d []byte) ([]byte, error) {
		if len(d) == 0 {
			return nil, errors.New("nothing to echo")
		}
		return d, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 1000, MaxMessage} {
		want := bytes.Repeat([]byte{7}, n)
		got, err := l.Request(testCtx(t), "rq.echo.alpha.x", want)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: %d, %v", n, len(got), err)
		}
	}
	var remote *RemoteError
	if _, err := l.Request(testCtx(t), "rq.echo.alpha.x", nil); !errors.As(err, &remote) || remote.Text != "nothing to echo" {
		t.Fatalf("error of the peer: %v", err)
	}
	stop()
	if _, err := l.Request(testCtx(t), "rq.echo.alpha.x", nil); !errors.Is(err, ErrNoAnswer) {
		t.Fatalf("nobody serves: %v", err)
	}
}

func TestHandlersAreBounded(t *testing.T) {
	s, _, l := linked(t)
	var now, most atomic.Int32
	release := make(chan struct{})
	stop, err := s.Handle("rq.slow.alpha.x", func(ctx context.Context, _ []byte) ([]byte, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		return []byte("done"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			if _, err := l.Request(testCtx(t), "rq.slow.alpha.x", nil); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "all slots taken", func() bool { return now.Load() == handlerLimit })
	close(release)
	wg.Wait()
	if most.Load() != handlerLimit {
		t.Fatalf("%d at once", most.Load())
	}
}

func TestPlainMessagesBothWays(t *testing.T) {
	s, p, l := linked(t)
	acks, beats := make(chan string, 10), make(chan string, 10)
	stop, err := l.Subscribe(AckSubject("alpha", "accounts", 1), func(d []byte) { acks <- string(d) })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	stop2, err := s.Subscribe(HeartbeatSubject("alpha"), func(d []byte) { beats <- string(d) })
	if err != nil {
		t.Fatal(err)
	}
	defer stop2()
	check := func(round string) {
		if err := s.Publish(AckSubject("alpha", "accounts", 1), []byte("ack"+round)); err != nil {
			t.Fatal(err)
		}
		if err := l.Publish(HeartbeatSubject("alpha"), []byte("beat"+round)); err != nil {
			t.Fatal(err)
		}
		if a, b := <-acks, <-beats; a != "ack"+round || b != "beat"+round {
			t.Fatal(a, b)
		}
	}
	check("1")
	gen := l.Generation()
	changed := l.Changed()
	p.cut(true)
	<-changed
	eventually(t, "link down", func() bool { return !l.Up() && !l.control.IsConnected() && !l.bulk.IsConnected() })
	if err := l.Publish(HeartbeatSubject("alpha"), nil); !errors.Is(err, ErrDown) {
		t.Fatalf("publish while down: %v", err)
	}
	p.heal()
	eventually(t, "link up", l.Up)
	if l.Generation() == gen {
		t.Fatal("same generation after a cut")
	}
	if _, err := l.RTT(); err != nil { // the subscription is known again
		t.Fatal(err)
	}
	check("2")
}

func TestDialErrorsNameTheRemedy(t *testing.T) {
	s, _, _ := linked(t)
	unpaired := linkTo(s.Addr().String())
	unpaired.Peer = "gamma"
	if _, err := Dial(testCtx(t), unpaired); !errors.Is(err, access.ErrNotPaired) || !strings.Contains(err.Error(), "understudy pair join") {
		t.Fatalf("not paired: %v", err)
	}
	stranger, err := access.Open(t.TempDir(), "stranger")
	if err == nil {
		err = stranger.AddPeer("beta", "", testKeys().beta.Key()) // which beta does not know of
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = Dial(testCtx(t), LinkConfig{Addr: s.Addr().String(), Peer: "beta", Keys: stranger, Log: quiet()})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "not paired with") {
		t.Fatalf("unknown to the target: %v", err)
	}
	if _, err := Dial(testCtx(t), linkTo("127.0.0.1:1")); err == nil {
		t.Fatal("dialled nothing")
	}
	start := time.Now()
	if _, err := Dial(canceled(), linkTo(s.Addr().String())); err == nil || time.Since(start) > 4*time.Second {
		t.Fatalf("canceled: %v after %v", err, time.Since(start))
	}
}

func TestPeerCannotTouchTheStore(t *testing.T) {
	s, _, l := linked(t)
	openReceiver(t, s, ReceiverConfig{})
	for _, subject := range []string{"$JS.API.STREAM.PURGE.T=alpha=accounts=5eed", "$JS.API.STREAM.NAMES", "q.accounts.1", "anything"} {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		if m, err := l.control.RequestWithContext(ctx, subject, nil); err == nil {
			t.Errorf("%s answered %s", subject, m.Data)
		}
		cancel()
	}
	for _, subject := range []string{">", "t.>", "m.>", "$JS.>"} {
		got := make(chan struct{}, 10)
		if stop, err := l.Subscribe(subject, func([]byte) { got <- struct{}{} }); err == nil {
			defer stop()
		}
		if err := s.Publish("t.alpha.other.1", nil); err != nil {
			t.Fatal(err)
		}
		if _, err := l.RTT(); err != nil {
			t.Fatal(err)
		}
		if len(got) > 0 {
			t.Errorf("peer may listen to %s", subject)
		}
	}
}

func TestTokensKeepNamesApart(t *testing.T) {
	names := []string{"a", "A", "a.b", "a_b", "a-b", "a>", "a*", "", "\x00", "ä", "a/b", "a=b", strings.Repeat("x", 48), strings.Repeat("x", 49),
		strings.Repeat("x", 300), Token("A"), Token(strings.Repeat("x", 49))}
	seen := map[string]string{}
	for _, n := range names {
		tok := Token(n)
		if other, ok := seen[tok]; ok && other != n {
			t.Errorf("%q and %q are both %q", n, other, tok)
		}
		seen[tok] = n
		if tok == "" || strings.ContainsAny(tok, ".*> =/\x00\\") || len(tok) > 80 {
			t.Errorf("%q gives %q", n, tok)
		}
	}
}

func TestStoredQueuesAreListedAndDeleted(t *testing.T) {
	s := startServer(t, ServerConfig{})
	j := openJournal(t, s, JournalConfig{Epoch: 1})
	goRun(t, j.Run)
	put(t, j, 1, 10, 10)
	if err := j.Close(testCtx(t)); err != nil {
		t.Fatal(err)
	}
	r := openReceiver(t, s, ReceiverConfig{Epoch: 2})
	list, err := s.Stored(testCtx(t))
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v %v", list, err)
	}
	if q := list[0]; q.Target || q.Connection != "accounts" || q.Epoch != 1 || q.Frames == 0 || q.Bytes == 0 {
		t.Fatalf("%+v", q)
	}
	if q := list[1]; !q.Target || q.Source != "alpha" || q.Connection != "accounts" || q.Epoch != 2 {
		t.Fatalf("%+v", q)
	}
	if err := s.DeleteStored(testCtx(t), list[0]); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(testCtx(t)); err != nil {
		t.Fatal(err)
	}
	if list, err = s.Stored(testCtx(t)); err != nil || len(list) != 0 {
		t.Fatalf("%+v %v", list, err)
	}
	if err := s.DeleteStored(testCtx(t), Stored{name: "Q=none=1"}); err != nil {
		t.Fatalf("delete of what is not there: %v", err)
	}
}
