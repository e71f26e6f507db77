package node

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/internal/exercise"
	"understudy/internal/failpoint"
	"understudy/internal/sametree"
	"understudy/internal/testfuse"
	"understudy/internal/testnode"
)

// A daemon of this test program is a child that runs one node.
func init() { testnode.Child(runDaemon) }

func runDaemon(ctx context.Context, settings []byte, ready func(string)) error {
	var cfg Config
	if err := json.Unmarshal(settings, &cfg); err != nil {
		return err
	}
	if err := failpoint.ArmFromEnv(); err != nil {
		return err
	}
	if failpoint.Armed() { // it may end before it is ready
		ready(cfg.Listen)
		ready = func(string) {}
	}
	level := slog.LevelInfo
	if os.Getenv("UNDERSTUDY_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	restEvery = time.Second
	n, err := Open(cfg, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
	if err != nil {
		return err
	}
	go func() {
		<-n.Ready()
		ready(n.Addr())
	}()
	return n.Run(ctx)
}

// rig is a source and a target as processes of their own, a directory and its replica.
// This process serves no mount, so it may look into all of them.
type rig struct {
	t       testing.TB
	dir     string
	replica string
	source  *machine
	target  *machine
	via     string // where the source finds the target; "": at its address
	id      int
}

// machine is a daemon with its data directory and address, over restarts.
type machine struct {
	t   testing.TB
	cfg Config
	d   *testnode.Daemon
	ctl *control.Client
	ns  *testnode.Namespace // nil: that of the test
	env []string            // added to that of the test
}

// newRig starts both daemons with empty state.
func newRig(t testing.TB, change func(source, target *Config)) *rig {
	t.Helper()
	return newRigOn(t, nil, change)
}

// newRigOn is newRig with source and target on the ends A and B of a wire; nil: on this
// machine's own network.
func newRigOn(t testing.TB, w *testnode.Wire, change func(source, target *Config)) *rig {
	t.Helper()
	return newRigWith(t, w, change)
}

// newRigWith is newRigOn with something added to the daemons' environment.
func newRigWith(t testing.TB, w *testnode.Wire, change func(source, target *Config), env ...string) *rig {
	t.Helper()
	needRoot(t)
	base := testnode.Memory(t)
	r := &rig{t: t, dir: filepath.Join(base, "tree"), replica: filepath.Join(base, "replica")}
	must(t, os.Mkdir(r.dir, 0o755))
	testfuse.Watchdog(t, r.dir, time.Duration(scaled(15, 300))*time.Minute)
	source, target := machineConfig(base, "indy"), machineConfig(base, "jersey")
	if change != nil {
		change(&source, &target)
	}
	testnode.Pair(t, testnode.Home{Name: source.Name, Data: source.Data}, testnode.Home{Name: target.Name, Data: target.Data})
	r.target, r.source = &machine{t: t, cfg: target, env: env}, &machine{t: t, cfg: source, env: env}
	if w != nil {
		r.source.ns, r.target.ns = w.A, w.B
		r.source.cfg.Listen, r.target.cfg.Listen = "0.0.0.0:6320", "0.0.0.0:6320"
		r.via = w.HostPort(testnode.SideB, r.target.cfg.Listen)
	}
	r.target.start()
	r.source.start()
	t.Cleanup(func() {
		r.source.closeControl()
		r.target.closeControl()
	})
	return r
}

func machineConfig(base, name string) Config {
	cfg := DefaultConfig()
	cfg.Name, cfg.Data, cfg.Listen = name, filepath.Join(base, name), testnode.Loopback()+":0"
	cfg.NetworkRetry = 100 * time.Millisecond
	return cfg
}

// start runs the daemon, from the second time on at the address of the first.
func (m *machine) start() {
	m.t.Helper()
	m.startArmed("")
}

// startArmed starts the daemon so that it ends with SIGKILL at the hit of p after so
// many, or breaks what a plant names. With a point armed it counts as ready at once.
func (m *machine) startArmed(what string) {
	m.t.Helper()
	m.closeControl()
	env := m.env
	if what != "" {
		env = append(slices.Clone(env), failpoint.Env+"="+what)
	}
	m.d = testnode.StartIn(m.t, m.ns, m.cfg.Name, m.cfg, env...)
	m.cfg.Listen = m.d.Addr()
}

func (m *machine) closeControl() {
	if m.ctl != nil {
		m.ctl.Close()
		m.ctl = nil
	}
}

// kill ends the daemon with SIGKILL.
func (m *machine) kill() {
	m.t.Helper()
	m.closeControl()
	m.d.Kill()
}

// controlAddr is where the test reaches the daemon: on a wire over the loopback device
// of its namespace, which no fault of the wire touches.
func (m *machine) controlAddr() string {
	if m.ns == nil {
		return m.d.Addr()
	}
	return "127.0.0.1:" + DefaultPort
}

// ask calls a verb of the daemon.
func (m *machine) ask(verb string, req, reply any) error {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if m.ctl == nil {
		err := m.ns.Do(func() (err error) {
			local, err := control.ReadLocal(m.cfg.Data)
			if err == nil {
				m.ctl, err = control.Dial(ctx, m.controlAddr(), m.cfg.Name, local.Login())
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return m.ctl.Call(ctx, verb, req, reply)
}

func (m *machine) mustAsk(verb string, req, reply any) {
	m.t.Helper()
	if err := m.ask(verb, req, reply); err != nil {
		m.t.Fatalf("%s: %s: %v\n%s", m.cfg.Name, verb, err, m.d.Log())
	}
}

func (m *machine) status() (st control.Status) {
	m.t.Helper()
	m.mustAsk("status", nothing{}, &st)
	return st
}

// mount captures the directory in write order.
func (r *rig) mount() {
	r.t.Helper()
	r.source.mustAsk("mount", control.DirRequest{Dir: r.dir}, nil)
}

// connect joins the directory to the replica.
func (r *rig) connect() {
	r.t.Helper()
	addr := r.via
	if addr == "" {
		addr = r.target.d.Addr()
	}
	var reply control.ConnectReply
	r.source.mustAsk("connect", control.ConnectRequest{Set: "tree", Rules: []string{r.dir + " inc, rec"}, Target: "jersey",
		Address: addr, Map: map[string]string{r.dir: r.replica}, Capture: "stacked"}, &reply)
	r.id = reply.ID
}

// connection is the source's view.
func (r *rig) connection() control.Connection {
	r.t.Helper()
	st := r.source.status()
	if len(st.Connections) != 1 {
		r.t.Fatalf("connections: %+v", st.Connections)
	}
	return st.Connections[0]
}

// settled waits until source and target are equal and says what differs if they are not.
func (r *rig) settled(when string) {
	r.t.Helper()
	var st control.Status
	waitFor(r.t, "the connection", func() bool {
		st = r.source.status()
		return len(st.Connections) == 1
	})
	r.id = st.Connections[0].ID
	if err := r.source.ask("settle", control.SettleRequest{ID: r.id, TimeoutMS: 90_000}, nil); err != nil {
		r.source.d.Stacks()
		r.target.d.Stacks()
		r.t.Fatalf("%s: settle: %v\nsource: %+v\ntarget: %+v", when, err, r.source.status().Connections, r.target.status().Replicas)
	}
	diffs, err := sametree.Diff(r.dir, r.replica, sametree.Options{})
	if err != nil || len(diffs) > 0 {
		r.t.Fatalf("%s: source and target differ in %d places: %v\n%s\nsource: %+v\ntarget: %+v", when, len(diffs), err,
			strings.Join(first(diffs, 30), "\n"), r.source.status().Connections, r.target.status().Replicas)
	}
}

// usable waits for the end of the first mirror.
func (r *rig) usable() {
	r.t.Helper()
	waitFor(r.t, "a usable replica", func() bool {
		st := r.target.status()
		return len(st.Replicas) == 1 && st.Replicas[0].Usable
	})
}

// load works on the protected directory until the returned function ends it. Where the
// source is killed, its errors are expected.
func (r *rig) load(j exercise.Job, errorsExpected bool) (stop func() exercise.Stats) {
	r.t.Helper()
	j.Dir = r.dir
	ctx, cancel := context.WithCancel(context.Background())
	var stats exercise.Stats
	done := make(chan error, 1)
	go func() {
		var err error
		stats, err = j.RunChild(ctx)
		done <- err
	}()
	return func() exercise.Stats {
		r.t.Helper()
		cancel()
		if err := <-done; err != nil && !errorsExpected {
			r.t.Errorf("%s, seed %d: an application saw an error: %v", j.Kind, j.Seed, err)
		}
		return stats
	}
}

// instant is a random moment, at most limit from now. It is no waiting for a state: a
// kill should come at any.
func instant(rng *rand.Rand, limit time.Duration) {
	time.Sleep(time.Duration(rng.Int64N(int64(limit))))
}

// protectedRig is a rig that is mounted, connected and mirrored.
func protectedRig(t testing.TB) *rig {
	t.Helper()
	r := newRig(t, nil)
	r.mount()
	r.connect()
	r.usable()
	return r
}

// mixedLoad is one of the loads beside which machines are killed: a steady one, and
// workers against each other with every kind of change.
func mixedLoad(i int) exercise.Job {
	if i%2 == 0 {
		return exercise.Job{Kind: "rate", Seed: int64(i), Ops: 3000}
	}
	return exercise.Job{Kind: "stress", Seed: int64(i), Workers: 3, Ops: 1 << 30, Stress: exercise.StressOptions{UID: 65534}}
}

// TestKilledTargetResumes: the target daemon is killed with SIGKILL at random moments
// under mixed load, sometimes again while it recovers, and started on the same address.
// It goes on from its position: nothing is lost or done twice, no new epoch begins, and
// no mirror runs (B6.38).
func TestKilledTargetResumes(t *testing.T) {
	t.Parallel()
	r := protectedRig(t)
	r.target.closeControl()
	r.target.d.Stop() // the end of the first mirror is durable now
	r.target.start()
	r.settled("before")
	before := r.connection()
	defer r.asleep(r.levels())
	rng := rand.New(rand.NewPCG(11, 12))
	kills := scaled(24, 1000)
	var slowest time.Duration
	for i := 0; i < kills; {
		stop := r.load(mixedLoad(i), false)
		for range 1 + rng.IntN(3) {
			instant(rng, 400*time.Millisecond)
			r.target.kill()
			instant(rng, 30*time.Millisecond)
			began := time.Now()
			r.target.start()
			slowest = max(slowest, time.Since(began))
			i++
		}
		stop()
		r.settled("after kill " + strconv.Itoa(i))
		if now := r.connection(); now.Epoch != before.Epoch || now.MirrorFiles != before.MirrorFiles {
			t.Fatalf("after kill %d: epoch %s was %s, %d files mirrored, were %d: %s\n%s", i, now.Epoch, before.Epoch, now.MirrorFiles, before.MirrorFiles,
				now.LastError, r.source.d.Log())
		}
	}
	t.Logf("%d kills, %d operations, slowest start %v", kills, r.connection().CapturedOp, slowest.Round(time.Millisecond))
}

// TestKilledTargetWhileMirroring: a mirror under way at the kill is healed by a
// difference mirror; the pair converges.
func TestKilledTargetWhileMirroring(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	do(exercise.Job{Kind: "stress", Dir: r.dir, Seed: 21, Workers: 2, Ops: 6000}, t, false)
	r.mount()
	r.connect()
	var before [2]level
	rng := rand.New(rand.NewPCG(21, 22))
	for i := range scaled(8, 200) {
		stop := r.load(exercise.Job{Kind: "rate", Seed: int64(i), Ops: 1000}, false)
		mode := []string{"full", "diff"}[i%2]
		if i > 0 { // the first is the initial one
			if err := r.source.ask("mirror", control.MirrorRequest{ID: r.id, Action: "start", Mode: mode, Checksum: mode == "diff"}, nil); err != nil {
				t.Fatal(err)
			}
		}
		instant(rng, 150*time.Millisecond)
		r.target.kill()
		r.target.start()
		stop()
		r.settled("after kill " + strconv.Itoa(i) + " in a " + mode + " mirror")
		if i == 0 {
			before = r.levels()
		}
	}
	r.usable()
	r.asleep(before)
}

// TestKilledSourceHeals: the source daemon is killed with SIGKILL under load. Its mount
// is dead; the directory is changed natively when that is taken away, then the daemon
// is started again, which begins a new epoch and compares everything.
func TestKilledSourceHeals(t *testing.T) {
	t.Parallel()
	r := protectedRig(t)
	defer r.asleep(r.levels())
	rng := rand.New(rand.NewPCG(31, 32))
	for i := range scaled(20, 300) {
		epoch := r.connection().Epoch
		r.killSource(rng, i)
		if i%2 == 0 { // else the daemon finds the dead mount itself
			must(t, unix.Unmount(r.dir, unix.MNT_DETACH))
			do(exercise.Job{Kind: "stress", Dir: r.dir, Seed: int64(1000 + i), Workers: 2, Ops: 500}, t, false)
		}
		r.source.start()
		r.settled("after kill " + strconv.Itoa(i))
		if now := r.connection(); now.Epoch == epoch || !now.OrderKept {
			t.Fatalf("after kill %d: %+v", i, now)
		}
	}
	r.usable()
}

// killSource kills the source at a random moment of a load.
func (r *rig) killSource(rng *rand.Rand, i int) {
	r.t.Helper()
	stop := r.load(mixedLoad(i), true)
	instant(rng, 400*time.Millisecond)
	r.source.kill()
	stop()
}

// TestKilledBothHeal: both daemons are killed at once and started in either order.
func TestKilledBothHeal(t *testing.T) {
	t.Parallel()
	r := protectedRig(t)
	defer r.asleep(r.levels())
	rng := rand.New(rand.NewPCG(41, 42))
	for i := range scaled(20, 300) {
		stop := r.load(mixedLoad(i), true)
		instant(rng, 400*time.Millisecond)
		if i%3 == 0 {
			r.target.kill()
			instant(rng, 50*time.Millisecond)
			r.source.kill()
		} else {
			r.source.kill()
			instant(rng, 50*time.Millisecond)
			r.target.kill()
		}
		stop()
		if i%2 == 0 {
			r.target.start()
			r.source.start()
		} else {
			r.source.start()
			instant(rng, 300*time.Millisecond)
			r.target.start()
		}
		r.settled("after kill " + strconv.Itoa(i))
	}
	r.usable()
}
