package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/fileop"
	"understudy/internal/failpoint"
	"understudy/internal/testdamage"
)

// damaged is a source and a target that live through damages of their stores as a node
// does: what fails begins a new epoch. What arrives is held against a model.
type damaged struct {
	t        *testing.T
	base     string
	src, dst *Server
	addr     string
	stopRun  []func()

	epoch   fileop.Epoch
	put     int  // operations put in this epoch
	planted bool // the checks are off: what arrives wrong is what the test wants
	valve   *Valve
	j       *Journal
	r       *Receiver
	l       *Link
	stop    func()
	ended   chan error // why the epoch cannot go on

	mu      sync.Mutex // guards what follows
	applied Position
	wrong   string
	hold    chan struct{} // closed: the reader goes on
}

func (d *damaged) dir(side string) string { return filepath.Join(d.base, side) }

// startServers starts those that do not run.
func (d *damaged) startServers() {
	d.t.Helper()
	start := func(name, listen string) *Server {
		s, err := Start(ServerConfig{Name: name, StoreDir: d.dir(name), Listen: listen, Keys: testKeys().beta, MinFree: 1 << 20}, quiet())
		if err != nil {
			d.t.Fatalf("%s does not start on its damaged store: %v", name, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Run(ctx) }()
		d.stopRun = append(d.stopRun, func() { cancel(); <-done; closeServer(d.t, s) })
		return s
	}
	if d.src == nil {
		d.src = start("alpha", "")
		d.dst = start("beta", d.addr)
		d.addr = d.dst.Addr().String()
	}
}

func (d *damaged) stopServers() {
	for _, f := range d.stopRun {
		f()
	}
	d.stopRun, d.src, d.dst = nil, nil, nil
}

// open begins or continues the epoch; an error is one of opening.
func (d *damaged) open() (err error) {
	ctx := testCtx(d.t)
	if d.j, err = d.src.OpenJournal(ctx, JournalConfig{Connection: "accounts", Epoch: d.epoch, TailMax: 1}); err != nil {
		return err
	}
	if q, _ := d.j.Last(); int(q) != d.put { // the node begins a new epoch where it cannot know
		return fmt.Errorf("%w: the queue ends at %d, put were %d", ErrBroken, q, d.put)
	}
	d.mu.Lock()
	applied := d.applied
	d.mu.Unlock()
	if d.r, err = d.dst.OpenReceiver(ctx, ReceiverConfig{Source: "alpha", Connection: "accounts", Epoch: d.epoch, Applied: applied}); err != nil {
		return err
	}
	if d.l, err = Dial(ctx, linkTo(d.addr)); err != nil {
		return err
	}
	d.valve, d.hold = new(Valve), make(chan struct{})
	close(d.hold)
	tx := NewTransmitter(d.j, d.l, TransmitterConfig{Connection: "accounts", Source: "alpha", Gate: d.valve}, quiet())
	run, cancel := context.WithCancel(context.Background())
	d.ended = make(chan error, 8)
	var wg sync.WaitGroup
	for _, f := range []func(context.Context) error{d.j.Run, tx.Run, d.read} {
		wg.Go(func() {
			if err := f(run); err != nil {
				d.ended <- err
			}
		})
	}
	d.stop = func() { cancel(); wg.Wait() }
	return nil
}

// read is the applier: it takes frames and checks that each operation is the next one
// that was put, whole. It confirms what it took, so that both queues are trimmed.
func (d *damaged) read(ctx context.Context) error {
	for {
		select {
		case <-d.holding():
		case <-ctx.Done():
			return nil
		}
		f, i, err := d.r.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		d.mu.Lock()
		if why := d.check(&f); why != "" {
			d.wrong = why
		}
		d.applied = Position{Frame: i, Seq: f.Last(), Chain: f.Chain}
		d.mu.Unlock()
		if i%3 == 0 {
			d.r.Purge(i)
			d.j.Confirm(i, f.Last())
		}
	}
}

func (d *damaged) holding() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hold
}

// check compares a frame with what was put; mu is held.
func (d *damaged) check(f *fileop.Frame) string {
	if f.First != d.applied.Seq+1 {
		return fmt.Sprintf("frame begins at %d, %d were applied", f.First, d.applied.Seq)
	}
	var op fileop.Op
	n := f.First
	for rd := f.Records(); ; n++ {
		more, err := rd.Next(&op)
		if err != nil {
			return fmt.Sprintf("operation %d: %v", n, err)
		}
		if !more {
			break
		}
		want := write(int(n), 2000)
		if op.Seq != n || op.Obj != want.Obj || string(op.Data) != string(want.Data) {
			return fmt.Sprintf("operation %d is not what was put", n)
		}
	}
	return ""
}

func (d *damaged) closeEpoch(remove bool) {
	if d.stop != nil {
		d.stop()
		d.stop = nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if d.l != nil {
		d.l.Close()
	}
	if d.r != nil {
		if remove {
			_ = d.r.Delete(ctx) // what cannot be deleted is no damage of the next epoch
		} else {
			_ = d.r.Close(ctx)
		}
	}
	if d.j != nil {
		if remove {
			_ = d.j.Delete(ctx)
		} else {
			_ = d.j.Close(ctx)
		}
	}
	d.l, d.r, d.j = nil, nil, nil
}

// newEpoch is what a node does after any failure.
func (d *damaged) newEpoch() {
	d.t.Helper()
	for end := time.Now().Add(deadline); ; {
		d.closeEpoch(true)
		d.epoch++
		d.put, d.applied = 0, Position{}
		d.sweep()
		err := d.open()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			d.t.Fatalf("no new epoch: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// sweep deletes what queues of ended epochs could not be deleted when they ended.
func (d *damaged) sweep() {
	for _, s := range []*Server{d.src, d.dst} {
		list, _ := s.Stored(testCtx(d.t)) // none while it restarts
		for _, q := range list {
			_ = s.DeleteStored(testCtx(d.t), q)
		}
	}
}

// more puts n operations, in several frames; the journal may fail under it.
func (d *damaged) more(n int) {
	for range n {
		if _, err := d.j.Put(write(d.put+1, 2000)); err != nil {
			return
		}
		d.put++
		if d.put%20 == 0 {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			_ = d.j.Sync(ctx)
			cancel()
		}
	}
}

// settle waits until all that was put has arrived, in a new epoch if need be, and
// reports whether one was begun.
func (d *damaged) settle() (healed bool) {
	d.t.Helper()
	for end := time.Now().Add(2 * deadline); ; {
		d.mu.Lock()
		at, wrong := d.applied.Seq, d.wrong
		d.mu.Unlock()
		if wrong != "" && d.planted {
			return healed
		}
		if wrong != "" {
			d.t.Fatal(wrong)
		}
		if int(at) == d.put && d.j.Err() == nil {
			return healed
		}
		select {
		case err := <-d.ended:
			if !errors.Is(err, ErrBroken) && !errors.Is(err, ErrStore) && !errors.Is(err, ErrFull) && !errors.Is(err, ErrClosed) {
				d.t.Logf("ended by: %v", err)
			}
			d.newEpoch()
			d.more(10)
			healed = true
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(end) {
			d.t.Fatalf("not healed: %d of %d arrived", at, d.put)
		}
	}
}

func keepLock(path string) bool { return strings.HasSuffix(path, "/lock") }

// one lives through one damage.
func (d *damaged) one(i int, rng *rand.Rand) (what string, healed bool) {
	d.t.Helper()
	live, side := i%2 == 0, [2]string{"alpha", "beta"}[i/2%2]
	kind := testdamage.Kinds[i/4%len(testdamage.Kinds)]
	backlog, skip := rng.IntN(3), keepLock
	if d.planted { // what is read late, from disk, and is not looked at when the server starts
		kind, backlog, skip = "flip", 1, func(path string) bool { return !strings.HasSuffix(path, ".blk") }
	}
	older := filepath.Join(d.base, "older")
	must(d.t, os.RemoveAll(older))
	d.more(40)
	d.settle()
	must(d.t, testdamage.Copy(d.dir(side), older))
	switch backlog { // where the backlog is
	case 0:
		d.valve.Pause()
	case 1:
		d.mu.Lock()
		d.hold = make(chan struct{})
		d.mu.Unlock()
	}
	d.more(60 + rng.IntN(200))
	if !live {
		d.closeEpoch(false)
		d.stopServers()
	}
	what, err := testdamage.Do(rng, kind, d.dir(side), older, skip)
	must(d.t, err)
	what = fmt.Sprintf("%s %s, live %v", side, what, live)
	if !live {
		d.startServers()
		if err := d.open(); err != nil {
			d.newEpoch()
			healed = true
		}
	}
	d.valve.Resume()
	d.mu.Lock()
	select {
	case <-d.hold:
	default:
		close(d.hold)
	}
	d.mu.Unlock()
	d.more(40)
	return what, d.settle() || healed
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// startDamaged is a running pair whose waits are short.
func startDamaged(t *testing.T) *damaged {
	t.Helper()
	a, b := stallCheck, probeEvery
	stallCheck, probeEvery = 200*time.Millisecond, 200*time.Millisecond
	d := &damaged{t: t, base: storeDir(t), addr: "127.0.0.1:0", epoch: testEpoch}
	t.Cleanup(func() {
		d.closeEpoch(true)
		d.stopServers()
		stallCheck, probeEvery = a, b
	})
	d.startServers()
	must(t, d.open())
	return d
}

// TestDamagedStoreHeals: files of either queue's store are damaged, while the servers run
// and while they do not. Nothing damaged, missing, repeated or out of order is handed to
// the applier, and what is put afterwards arrives, in a new epoch if need be.
func TestDamagedStoreHeals(t *testing.T) {
	seed, n := uint64(401), 160
	if os.Getenv("UNDERSTUDY_LONG") != "" {
		n = 20_000
	}
	if s := os.Getenv("UNDERSTUDY_SEED"); s != "" {
		_, err := fmt.Sscan(s, &seed)
		must(t, err)
	}
	d := startDamaged(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	healed := 0
	var slowest time.Duration
	for i := range n {
		began := time.Now()
		what, anew := d.one(i, rng)
		took := time.Since(began)
		slowest = max(slowest, took)
		if anew {
			healed++
		}
		if testing.Verbose() && n <= 1000 || took > deadline/2 {
			t.Logf("damage %d: %s: new epoch %v, %v", i, what, anew, took.Round(time.Millisecond))
		}
	}
	t.Logf("seed %d: %d damages, %d healed by a new epoch, slowest %v", seed, n, healed, slowest.Round(time.Millisecond))
}

// TestPlantedNoChainIsSeen: with the check of the successor switched off, the model of
// TestDamagedStoreHeals sees what the applier would have got.
func TestPlantedNoChainIsSeen(t *testing.T) {
	d := startDamaged(t)
	d.planted = true
	must(t, failpoint.Arm(string(failpoint.PlantNoChain)))
	defer func() { must(t, failpoint.Arm("")) }()
	rng := rand.New(rand.NewPCG(402, 1))
	for i := range 100 {
		d.one(4*i+3, rng) // of the stopped target's store: a running server has much in memory
		d.mu.Lock()
		wrong := d.wrong
		d.mu.Unlock()
		if wrong != "" {
			t.Logf("after %d damages: %s", i+1, wrong)
			return
		}
	}
	t.Fatal("100 damages, and the model saw nothing wrong")
}
