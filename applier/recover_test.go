package applier

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"understudy/fileop"
	"understudy/internal/bootid"
	"understudy/internal/fsx"
)

// errKilled ends a run as a SIGKILL would, at the system call it is returned from.
var errKilled = fmt.Errorf("%w: killed", ErrProtocol)

// killer lets n system calls pass and none afterwards.
type killer struct {
	left atomic.Int64
	dead context.CancelFunc
	ctx  context.Context
}

func newKiller(t testing.TB, n int) *killer {
	k := new(killer)
	k.ctx, k.dead = context.WithCancel(deadline(t))
	k.left.Store(int64(n))
	return k
}

func (k *killer) fault(fsx.Step) error {
	if k.left.Add(-1) < 0 {
		k.dead()
		return errKilled
	}
	return nil
}

// memDir is a fast directory for tests.
func memDir(t testing.TB) string {
	if dir := os.Getenv("APPLIER_TEST_DIR"); dir != "" {
		return dir // a test that needs a disk's file system
	}
	dir, err := os.MkdirTemp("/dev/shm", "applier-test-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (s *script) since(frame uint64) iter.Seq2[fileop.Frame, error] {
	return func(yield func(fileop.Frame, error) bool) {
		for _, f := range s.frames[frame:] {
			if !yield(f, nil) {
				return
			}
		}
	}
}

// awaitEnd waits until everything is applied or the run was killed, and reports the latter.
func (r *rig) awaitEnd(q fileop.Seq) bool {
	ctx := deadline(r.t)
	for {
		r.mu.Lock()
		done, ch, stopped := r.shown.Applied >= q, r.changed, r.stopped
		r.mu.Unlock()
		if done {
			return false
		}
		select {
		case <-ch:
		case <-stopped:
			return true
		case <-ctx.Done():
			r.t.Fatalf("stuck at %+v", r.Position())
		}
	}
}

// openRecovered opens an applier after a kill, as node does.
func openRecovered(ctx context.Context, t testing.TB, cfg Config, s *script) (*rig, error) {
	a, err := Open(cfg, quiet())
	if err != nil {
		return nil, err
	}
	if a.NeedsRecovery() {
		if err := a.Recover(ctx, s.since(a.Position().Frame)); err != nil {
			a.release()
			return nil, err
		}
	}
	return runRig(t, a, cfg, s), nil
}

// runKilled applies the script, killed at the given system calls one after another, and
// returns the resulting rig.
func runKilled(t testing.TB, cfg Config, s *script, kills []int) *rig {
	last := s.q.Next() - 1
	for _, n := range kills {
		k := newKiller(t, n)
		cfg.Fault = k.fault
		r, err := openRecovered(k.ctx, t, cfg, s)
		if err != nil {
			if !errors.Is(err, errKilled) && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			continue
		}
		if !r.awaitEnd(last) {
			k.left.Store(0)
		}
		r.kill()
	}
	cfg.Fault = nil
	r, err := openRecovered(deadline(t), t, cfg, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// G: after any kill the names are rewound and the replay ends at the same tree.
func TestRandomKills(t *testing.T) {
	for round := range 4 { // of 100 sequences each
		t.Run(strconv.Itoa(round), testRandomKills)
	}
}

func testRandomKills(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "n") }
		m := newModel(pick)
		steps := rapid.IntRange(5, 60).Draw(rt, "steps")
		for range steps {
			m.step()
		}
		s := newScript(t, 1, rapid.IntRange(1, 20).Draw(rt, "per frame"))
		s.add(m.ops...)
		s.send()
		cfg := testConfig(t, memDir(t))
		cfg.CheckpointEvery = 1
		if rapid.Bool().Draw(rt, "rare checkpoints") {
			cfg.CheckpointEvery = 1e12
		}
		kills := rapid.SliceOfN(rapid.IntRange(1, 200), 1, 4).Draw(rt, "kills")
		r := runKilled(t, cfg, s, kills)
		defer r.kill()
		r.await(s.q.Next()-1, 0)
		if got, want := treeText(t, r.dir), m.text(); got != want {
			rt.Fatalf("tree is\n%s\nwant\n%s", got, want)
		}
		if p := r.Position(); p.Recovering || p.Remirror {
			rt.Fatalf("position %+v, stats %+v", p, r.Stats())
		}
		if len(m.tmp) == 0 {
			if err := r.stop(); err != nil {
				rt.Fatal(err)
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(r.dir), ".understudy*")); len(left) > 0 {
				rt.Fatalf("left in staging: %v", left)
			}
		}
	})
}

// G: after a power cut, where the queue may have lost operations the target has on disk,
// all names are compared, and the replay of what comes again ends at the same tree.
func TestRandomPowerCuts(t *testing.T) {
	boots := filepath.Join(t.TempDir(), "boot_id")
	saved := bootid.Path
	bootid.Path = boots
	t.Cleanup(func() { bootid.Path = saved })
	boot := 0
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "n") })
		for range rapid.IntRange(5, 60).Draw(rt, "steps") {
			m.step()
		}
		s := newScript(t, 1, rapid.IntRange(1, 5).Draw(rt, "per frame"))
		s.add(m.ops...)
		s.send()
		cfg := testConfig(t, memDir(t))
		cfg.CheckpointEvery = 1
		for _, n := range rapid.SliceOfN(rapid.IntRange(1, 300), 1, 3).Draw(rt, "cuts") {
			k := newKiller(t, n)
			cfg.Fault = k.fault
			if r := bootAgain(k.ctx, t, cfg, s, boots, &boot, rapid.IntRange(0, 8).Draw(rt, "lost")); r != nil {
				if !r.awaitEnd(s.q.Next() - 1) {
					k.left.Store(0)
				}
				r.kill()
			}
		}
		cfg.Fault = nil
		r := bootAgain(deadline(t), t, cfg, s, boots, &boot, rapid.IntRange(0, 8).Draw(rt, "lost"))
		defer r.kill()
		r.await(s.q.Next()-1, 0)
		if got, want := treeText(t, r.dir), m.text(); got != want {
			rt.Fatalf("tree is\n%s\nwant\n%s", got, want)
		}
		if p := r.Position(); p.Recovering || p.Remirror {
			rt.Fatalf("position %+v, stats %+v", p, r.Stats())
		}
	})
}

// bootAgain opens the applier in another boot; the queue lost its last frames.
func bootAgain(ctx context.Context, t testing.TB, cfg Config, s *script, boots string, boot *int, lost int) *rig {
	*boot++
	if err := os.WriteFile(boots, []byte(fmt.Sprint(*boot)), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := Open(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	frames := s.since(a.Position().Frame)
	left := max(len(s.frames)-int(a.Position().Frame)-lost, 0)
	if a.NeedsRecovery() {
		err := a.Recover(ctx, func(yield func(fileop.Frame, error) bool) {
			for f, err := range frames {
				if left--; left < 0 || !yield(f, err) {
					return
				}
			}
		})
		if err != nil {
			a.release()
			if !errors.Is(err, errKilled) && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			return nil
		}
	}
	return runRig(t, a, cfg, s)
}
