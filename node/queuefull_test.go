package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/event"
	"understudy/internal/exercise"
)

// onSmallDisk moves a machine's data to a file system of its own.
func onSmallDisk(t testing.TB, cfg *Config, size string) {
	t.Helper()
	must(t, os.MkdirAll(cfg.Data, 0o700))
	must(t, unix.Mount("understudy-test", cfg.Data, "tmpfs", 0, "size="+size))
	data := cfg.Data
	t.Cleanup(func() { _ = unix.Unmount(data, unix.MNT_DETACH) })
}

// fillDisk leaves that many bytes free on the disk of dir, as somebody else would.
func fillDisk(t testing.TB, dir string, leave int64) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "of somebody else")
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	block := make([]byte, 64<<10)
	for {
		var st unix.Statfs_t
		must(t, unix.Statfs(dir, &st))
		left := int64(st.Bavail)*st.Bsize - leave
		if left <= 0 {
			break
		}
		if _, err := f.Write(block[:min(int64(len(block)), left)]); err != nil {
			break // full
		}
	}
	return func() { must(t, os.Remove(name)) }
}

// shows waits until the source's status of the connection is as wanted.
func (r *rig) shows(what string, ok func(c *control.Connection) bool) {
	r.t.Helper()
	var last control.Connection
	deadline := time.Now().Add(time.Minute)
	for {
		last = r.connection()
		if ok(&last) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the status does not show %s: %+v\n%s", what, last, r.source.d.Log())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func failsWith(text string) func(*control.Connection) bool {
	return func(c *control.Connection) bool { return strings.Contains(c.LastError, text) }
}

// TestQueueDiskFilledByOthers: somebody else fills the disk of the source's queue under
// load. The queue is full before the disk is: the application sees no error, the status
// says why nothing is sent, and when there is room again the pair converges by itself.
func TestQueueDiskFilledByOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(source, _ *Config) {
		onSmallDisk(t, source, "160m")
		source.QueueFree = 48 << 20
	})
	r.mount()
	r.connect()
	r.usable()
	defer r.asleep(r.levels())
	for round := range 2 {
		stop := r.load(exercise.Job{Kind: "rate", Seed: int64(round), Ops: 2000}, false)
		free := fillDisk(t, r.source.cfg.Data, 24<<20)
		r.shows("that the queue is full", failsWith("queue is full"))
		r.shows("that nothing is sent", func(c *control.Connection) bool { return c.Transmit == "Error" })
		r.shows("the alert", func(c *control.Connection) bool { return alerted(c.Alerts, event.QueueSpaceLow) })
		stop()
		free()
		r.settled("after there was room again")
		r.quietAgain()
	}
}

// TestFullTargetFillsTheSource: the target is paused and its queue's disk runs low, so
// the transmitter waits; then the source's queue fills, and its session ends; then the
// target works again, and the pair converges. The application notices nothing (B6.35).
func TestFullTargetFillsTheSource(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(source, target *Config) {
		source.QueueLimit = 32 << 20
		onSmallDisk(t, target, "128m")
		target.QueueFree = 112 << 20
	})
	r.mount()
	r.connect()
	r.usable()
	defer r.asleep(r.levels())
	before := r.connection().Epoch
	r.target.mustAsk("target", control.PauseRequest{Pause: true}, nil)
	for range 6 { // 24 MB: more than the target takes, less than the source
		r.writeTimes(1000)
	}
	r.shows("that the target is full", failsWith("target queue is full"))
	if now := r.connection().Epoch; now != before {
		t.Fatal("the session ended before the source's queue was full")
	}
	for range 12 {
		r.writeTimes(1000)
	}
	r.shows("a new session", func(c *control.Connection) bool { return c.Epoch != "" && c.Epoch != before })
	_ = r.target.ask("target", control.PauseRequest{}, nil)
	r.settled("after the target worked again")
}

// TestQueueDiskWithoutReserve: nothing is kept free and the disk is really full. A store
// that met that is dead until it starts again, which happens in the process.
func TestQueueDiskWithoutReserve(t *testing.T) {
	t.Parallel()
	for _, side := range []string{"source", "target"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(source, target *Config) {
				cfg := map[string]*Config{"source": source, "target": target}[side]
				onSmallDisk(t, cfg, "96m")
				cfg.QueueFree = 1
			})
			r.mount()
			r.connect()
			r.usable()
			defer r.asleep(r.levels())
			m := map[string]*machine{"source": r.source, "target": r.target}[side]
			stop := r.load(exercise.Job{Kind: "rate", Seed: 3, Ops: 2000}, false)
			free := fillDisk(t, m.cfg.Data, 0)
			waitFor(t, "a full queue or a restart of its store", func() bool {
				return strings.Contains(m.d.Log(), "restarting it") || strings.Contains(r.connection().LastError, "queue is full")
			})
			stop()
			free()
			r.settled("after there was room again")
		})
	}
}

// TestAutoReconnectOff: a connection whose queue was exhausted stays disconnected until
// the operator connects it again.
func TestAutoReconnectOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(source, _ *Config) { source.QueueLimit, source.AutoReconnect = 32<<20, false })
	r.mount()
	r.connect()
	r.usable()
	id, since := r.id, r.source.lastEvent()
	r.exhaust()
	r.shows("that it stays disconnected", func(c *control.Connection) bool {
		return c.Transmit == "Stopped" && strings.Contains(c.LastError, "auto-reconnect is off")
	})
	if err := r.source.ask("settle", control.SettleRequest{ID: r.id, TimeoutMS: 60_000}, nil); err == nil || !strings.Contains(err.Error(), "auto-reconnect is off") {
		t.Errorf("settle says: %v", err)
	}
	if a := r.connection().Alerts; !alerted(a, event.QueueSpaceLow) || !alerted(a, event.AutoDisconnect) {
		t.Errorf("alerts: %+v", a)
	}
	if r.source.seen(event.Reconnecting, since) {
		t.Error("it says that it reconnects")
	}
	r.source.mustAsk("transmission", control.PauseRequest{ID: r.id}, nil)
	r.connect()
	if r.id != id {
		t.Errorf("connection %d was %d", r.id, id)
	}
	r.settled("after it was connected again")
	r.quietAgain()
}

// TestAutoRemirrorNone: without an automatic mirror the connection stays pending until
// one is started by hand (B6.42, B7.48).
func TestAutoRemirrorNone(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(source, _ *Config) { source.QueueLimit, source.AutoRemirror = 32<<20, RemirrorNone })
	r.mount()
	r.connect()
	r.usable()
	r.exhaust()
	r.shows("that it is pending", func(c *control.Connection) bool {
		return c.Replication == "Pending" && strings.Contains(c.LastError, "no mirror begins by itself")
	})
	r.source.mustAsk("transmission", control.PauseRequest{ID: r.id}, nil)
	r.source.mustAsk("mirror", control.MirrorRequest{ID: r.id, Action: "start", Mode: "diff", ChecksumAll: true}, nil)
	r.settled("after a mirror by hand")
}

// exhaust fills the source's queue of 32 MiB.
func (r *rig) exhaust() {
	r.t.Helper()
	r.source.mustAsk("transmission", control.PauseRequest{ID: r.id, Pause: true}, nil)
	r.writeTimes(11_000)
}
