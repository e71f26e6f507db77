package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"understudy/fileop"
	"understudy/internal/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keyPair is the keyrings of a source and a target that know each other.
type keyPair struct{ alpha, beta *access.Keyring }

var testKeys = sync.OnceValue(func() keyPair {
	dir, err := os.MkdirTemp("", "stream-keys-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir) // they work without their files
	alpha, err1 := access.Open(filepath.Join(dir, "alpha"), "alpha")
	beta, err2 := access.Open(filepath.Join(dir, "beta"), "beta")
	err = errors.Join(err1, err2)
	if err == nil {
		err = access.PairUp(alpha, beta, "", "")
	}
	if err != nil {
		panic(err)
	}
	return keyPair{alpha, beta}
})

// linkTo is how alpha reaches beta.
func linkTo(addr string) LinkConfig {
	return LinkConfig{Addr: addr, Peer: "beta", Keys: testKeys().alpha, Log: quiet()}
}

const (
	testEpoch = fileop.Epoch(0x5eed)
	deadline  = 30 * time.Second
)

func quiet() *slog.Logger {
	if testing.Verbose() && os.Getenv("STREAM_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// storeDir is on a RAM disk where there is one: syncfs there does not wait for what
// others write.
func storeDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "stream-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func testCtx(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	return ctx
}

func startServer(t testing.TB, cfg ServerConfig) *Server {
	t.Helper()
	if cfg.StoreDir == "" {
		cfg.StoreDir = storeDir(t)
	}
	if cfg.Name == "" {
		cfg.Name = "node"
	}
	cfg.MinFree = max(cfg.MinFree, 1<<20)
	s, err := Start(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeServer(t, s) })
	return s
}

func closeServer(t testing.TB, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Errorf("close server: %v", err)
	}
}

func openJournal(t testing.TB, s *Server, cfg JournalConfig) *Journal {
	t.Helper()
	if cfg.Connection == "" {
		cfg.Connection = "accounts"
	}
	if cfg.Epoch == 0 {
		cfg.Epoch = testEpoch
	}
	j, err := s.OpenJournal(testCtx(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close(canceled()) })
	return j
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// goRun runs something that lives until the test ends; result receives what it returned.
func goRun(t testing.TB, run func(context.Context) error) (result <-chan error, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	ended := make(chan struct{})
	go func() { done <- run(ctx); close(ended) }()
	stop = func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(deadline):
			t.Error("it did not stop")
		}
	}
	t.Cleanup(stop)
	return done, stop
}

func openReceiver(t testing.TB, s *Server, cfg ReceiverConfig) *Receiver {
	t.Helper()
	if cfg.Source == "" {
		cfg.Source = "alpha"
	}
	if cfg.Connection == "" {
		cfg.Connection = "accounts"
	}
	if cfg.Epoch == 0 {
		cfg.Epoch = testEpoch
	}
	r, err := s.OpenReceiver(testCtx(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(testCtx(t)); err != nil {
			t.Errorf("close receiver: %v", err)
		}
	})
	return r
}

func dial(t testing.TB, addr string) *Link {
	t.Helper()
	l, err := Dial(testCtx(t), linkTo(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// pair is a source and a target joined by a proxy that can cut.
type pair struct {
	src, dst *Server
	j        *Journal
	r        *Receiver
	l        *Link
	tx       *Transmitter
	txDone   <-chan error
	valve    *Valve
	proxy    *proxy
}

func newPair(t testing.TB, jc JournalConfig, rc ReceiverConfig) *pair {
	t.Helper()
	return newPairOn(t, ServerConfig{}, jc, rc)
}

// newPairAt has the target's server look after its store.
func newPairAt(t testing.TB, target ServerConfig, rc ReceiverConfig) *pair {
	t.Helper()
	p := newPairOn(t, target, JournalConfig{}, rc)
	goRun(t, p.dst.Run)
	return p
}

func newPairOn(t testing.TB, target ServerConfig, jc JournalConfig, rc ReceiverConfig) *pair {
	t.Helper()
	p := &pair{valve: new(Valve)}
	p.src = startServer(t, ServerConfig{Name: "alpha"})
	target.Name, target.Listen, target.Keys = "beta", "127.0.0.1:0", testKeys().beta
	p.dst = startServer(t, target)
	p.proxy = newProxy(t, p.dst.Addr().String())
	p.j = openJournal(t, p.src, jc)
	p.r = openReceiver(t, p.dst, rc)
	addr := p.proxy.addr()
	if _, bench := t.(*testing.B); bench {
		addr = p.dst.Addr().String()
	}
	p.l = dial(t, addr)
	goRun(t, p.j.Run)
	p.tx = NewTransmitter(p.j, p.l, TransmitterConfig{Connection: "accounts", Source: "alpha", Gate: p.valve}, quiet())
	p.txDone, _ = goRun(t, p.tx.Run)
	return p
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", deadline, what)
		}
	}
}

// write is an operation that can be told from all others.
func write(n, size int) *fileop.Op {
	data := bytes.Repeat([]byte{byte(n)}, size)
	copy(data, fmt.Sprint(n))
	return &fileop.Op{Kind: fileop.Write, Obj: fileop.ObjID{Ino: uint64(n), Gen: 1}, Data: data}
}

func block(n, size int) *fileop.Op {
	op := write(n, size)
	op.Kind = fileop.MirrorBlock
	return op
}

func put(t testing.TB, j *Journal, from, to, size int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if _, err := j.Put(write(n, size)); err != nil {
			t.Fatal(err)
		}
	}
}

// expect reads the operations from to to, as put wrote them, and returns the number of
// the last frame.
func expect(t testing.TB, r *Receiver, from, to int) (frame uint64) {
	t.Helper()
	ctx := testCtx(t)
	for n := from; n <= to; {
		f, i, err := r.Next(ctx)
		if err != nil {
			t.Fatalf("wait for operation %d: %v", n, err)
		}
		frame = i
		n = expectRecords(t, &f, n)
	}
	return frame
}

func expectRecords(t testing.TB, f *fileop.Frame, n int) int {
	t.Helper()
	var op fileop.Op
	for rd := f.Records(); ; n++ {
		more, err := rd.Next(&op)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return n
		}
		if op.Seq != fileop.Seq(n) || op.Obj.Ino != uint64(n) {
			t.Fatalf("operation %d of object %d, want %d", op.Seq, op.Obj.Ino, n)
		}
	}
}

// proxy forwards TCP and resets all connections on demand.
type proxy struct {
	ln     net.Listener
	target string

	mu    sync.Mutex
	conns map[net.Conn]bool
	down  bool
	came  int // connections so far
	work  sync.WaitGroup
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, target: target, conns: map[net.Conn]bool{}}
	p.work.Add(1)
	go p.accept()
	t.Cleanup(func() { ln.Close(); p.cut(true); p.work.Wait() })
	return p
}

func (p *proxy) addr() string { return p.ln.Addr().String() }

func (p *proxy) accept() {
	defer p.work.Done()
	for {
		a, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.came++
		p.mu.Unlock()
		b, err := net.Dial("tcp", p.target)
		if err != nil {
			a.Close()
			continue
		}
		p.mu.Lock()
		if p.down {
			a.Close()
			b.Close()
		} else {
			p.conns[a], p.conns[b] = true, true
			p.work.Add(2)
			go p.copy(a, b)
			go p.copy(b, a)
		}
		p.mu.Unlock()
	}
}

func (p *proxy) copy(dst, src net.Conn) {
	defer p.work.Done()
	io.Copy(dst, src)
	dst.Close()
	src.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, src)
	delete(p.conns, dst)
}

// cut resets every connection; down refuses new ones until heal.
func (p *proxy) cut(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
	for c := range p.conns {
		if tc, ok := c.(*net.TCPConn); ok {
			tc.SetLinger(0)
		}
		c.Close()
	}
}

func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}
