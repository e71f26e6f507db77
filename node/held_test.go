package node

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/capture/holder"
	"understudy/control"
	"understudy/internal/exercise"
)

// A holder of this test program is a child started by a daemon that is one; it comes
// before anything else looks at the environment it inherits.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "holder" {
		os.Exit(holder.Main(os.Args[2:]))
	}
	countChild()
}

// countEnv makes the test program append numbers to a file, each with an fsync, as a
// database does its log, until its input ends. It prints how many there are.
const countEnv = "UNDERSTUDY_COUNT"

func countChild() {
	path := os.Getenv(countEnv)
	if path == "" {
		return
	}
	n, err := count(path)
	fmt.Println(n, err)
	os.Exit(0)
}

func count(path string) (n int, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	stop := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(stop) }()
	for ; ; n++ {
		select {
		case <-stop:
			return n, nil
		default:
		}
		if _, err := fmt.Fprintf(f, "%d\n", n); err != nil {
			return n, err
		}
		if err := f.Sync(); err != nil {
			return n, err
		}
	}
}

// counter starts the counting; stop ends it and checks that every number is in the file
// once, in order, and returns how many there are.
func (r *rig) counter(name string) (stop func() int) {
	r.t.Helper()
	path := filepath.Join(r.dir, "log", name)
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Dir = append(os.Environ(), countEnv+"="+path), "/"
	in, err := cmd.StdinPipe()
	must(r.t, err)
	out, err := cmd.StdoutPipe()
	must(r.t, err)
	must(r.t, cmd.Start())
	return func() int {
		r.t.Helper()
		in.Close()
		line, _ := bufio.NewReader(out).ReadString('\n')
		_ = cmd.Wait()
		number, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(number)
		if err != nil || rest != "<nil>" {
			r.t.Fatalf("the counting application saw an error: %s", line)
		}
		raw, err := os.ReadFile(path)
		must(r.t, err)
		lines := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
		for i, l := range lines {
			if l != strconv.Itoa(i) || len(lines) != n {
				r.t.Fatalf("line %d of %d is %q, %d were written", i, len(lines), l, n)
			}
		}
		return n
	}
}

// work is load beside the counting application, in a directory of its own.
func (r *rig) work(j exercise.Job) (stop func() exercise.Stats) {
	r.t.Helper()
	for _, name := range []string{"work", "log"} {
		must(r.t, os.MkdirAll(filepath.Join(r.dir, name), 0o755))
	}
	at := *r
	at.dir = filepath.Join(r.dir, "work")
	return at.load(j, false)
}

// heldRig is protectedRig with a holder at the source.
func heldRig(t testing.TB) *rig {
	t.Helper()
	r := newRig(t, func(source, _ *Config) { source.Hold = true })
	r.mount()
	r.connect()
	r.usable()
	r.settled("before")
	return r
}

// end stops the source in good order, so that the holder ends too.
func (r *rig) end() {
	if !r.t.Failed() {
		r.source.closeControl()
		r.source.d.Stop()
	}
}

// wentOn waits for the connection of a source that was started again and fails unless
// its session is that of an epoch and began no mirror.
func (r *rig) wentOn(when, epoch string) control.Connection {
	r.t.Helper()
	var now control.Connection
	waitFor(r.t, "the session", func() bool {
		now = r.connection()
		return now.Epoch != ""
	})
	if now.Epoch != epoch || now.Mirrors != 0 || now.MirrorPercent != 100 || !now.OrderKept {
		r.t.Fatalf("%s: epoch %s was %s, %d mirrors: %+v\n%s", when, now.Epoch, epoch, now.Mirrors, now, r.source.d.Log())
	}
	return now
}

// TestSessionOutlivesTheDaemon: the source daemon is killed with SIGKILL at random
// moments under mixed load and started again. Applications see no error, the session
// goes on in its epoch without any mirror, nothing is lost and nothing is done twice.
func TestSessionOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	r := heldRig(t)
	defer r.end()
	defer r.asleep(r.levels())
	rng := rand.New(rand.NewPCG(51, 52))
	kills, counted, captured := scaled(10, 300), 0, uint64(0)
	var slowest time.Duration
	for i := 0; i < kills; {
		epoch := r.connection().Epoch
		stop, stopCount := r.work(mixedLoad(i)), r.counter("count"+strconv.Itoa(i))
		for range 1 + rng.IntN(3) {
			instant(rng, 400*time.Millisecond)
			r.source.kill()
			began := time.Now()
			r.source.start()
			slowest = max(slowest, time.Since(began))
			i++
		}
		stop()
		counted += stopCount()
		when := "after kill " + strconv.Itoa(i)
		r.wentOn(when, epoch)
		r.settled(when)
		now := r.wentOn(when, epoch)
		if now.CapturedOp != now.AppliedOp || now.CapturedOp <= captured {
			t.Fatalf("%s: %d operations captured, %d applied, %d before", when, now.CapturedOp, now.AppliedOp, captured)
		}
		captured = now.CapturedOp
	}
	t.Logf("%d kills, %d operations, %d counted, slowest start %v", kills, captured, counted, slowest.Round(time.Millisecond))
}

// TestSessionResumesWithoutTarget: the source is killed while its target is stopped, and
// captures on; when the target is back, it gets everything in the same epoch.
func TestSessionResumesWithoutTarget(t *testing.T) {
	t.Parallel()
	r := heldRig(t)
	defer r.end()
	defer r.asleep(r.levels())
	epoch := r.connection().Epoch
	r.target.closeControl()
	r.target.d.Stop()
	stop, stopCount := r.work(mixedLoad(1)), r.counter("count")
	rng := rand.New(rand.NewPCG(61, 62))
	for range 3 {
		instant(rng, 300*time.Millisecond)
		r.source.kill()
		r.source.start()
	}
	n := stopCount()
	stop()
	r.target.start()
	r.settled("when the target is back")
	r.wentOn("when the target is back", epoch)
	t.Logf("%d counted", n)
}

// TestKilledSourceWhileMirroring: a kill in the middle of a mirror is healed by a
// difference mirror of the same epoch, never by a full one.
func TestKilledSourceWhileMirroring(t *testing.T) {
	t.Parallel()
	r := heldRig(t)
	defer r.end()
	defer r.asleep(r.levels())
	do(exercise.Job{Kind: "stress", Dir: r.dir, Seed: 71, Workers: 2, Ops: 6000}, t, false)
	r.settled("before")
	rng := rand.New(rand.NewPCG(71, 72))
	quiet := 0
	for i := range scaled(6, 200) {
		epoch := r.connection().Epoch
		stop := r.load(exercise.Job{Kind: "rate", Seed: int64(i), Ops: 1000}, false)
		mode := []string{"full", "diff"}[i%2]
		r.source.mustAsk("mirror", control.MirrorRequest{ID: r.connection().ID, Action: "start", Mode: mode, Checksum: mode == "diff"}, nil)
		instant(rng, 150*time.Millisecond)
		r.source.kill()
		r.source.start()
		stop()
		when := "after kill " + strconv.Itoa(i) + " in a " + mode + " mirror"
		r.settled(when)
		now := r.connection()
		if now.Epoch != epoch || now.Mirrors > 1 {
			t.Fatalf("%s: epoch %s was %s, %d mirrors\n%s", when, now.Epoch, epoch, now.Mirrors, r.source.d.Log())
		}
		if now.Mirrors == 0 {
			quiet++
		}
		if strings.Contains(r.source.d.Log(), "diff=false") {
			t.Fatalf("%s: a full mirror ran\n%s", when, r.source.d.Log())
		}
	}
	t.Logf("%d kills came behind the end of the mirror", quiet)
}

// TestKilledBothWithHolder: source and target are killed at the same time; the session
// goes on or heals.
func TestKilledBothWithHolder(t *testing.T) {
	t.Parallel()
	r := heldRig(t)
	defer r.end()
	defer r.asleep(r.levels())
	rng := rand.New(rand.NewPCG(81, 82))
	for i := range scaled(6, 300) {
		stop, stopCount := r.work(mixedLoad(i)), r.counter("count"+strconv.Itoa(i))
		instant(rng, 400*time.Millisecond)
		r.source.kill()
		r.target.kill()
		if i%2 == 0 {
			r.source.start()
			instant(rng, 200*time.Millisecond)
			r.target.start()
		} else {
			r.target.start()
			r.source.start()
		}
		stop()
		stopCount()
		r.settled("after kill " + strconv.Itoa(i))
	}
	r.usable()
}
