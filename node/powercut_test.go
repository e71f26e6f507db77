package node

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/internal/atomicfile"
	"understudy/internal/bootid"
	"understudy/internal/failpoint"
	"understudy/internal/powercut"
	"understudy/internal/sametree"
	"understudy/internal/testfuse"
)

// bootEnv gives a daemon of a test the file that says which boot this is; its clean marks
// are taken more often then.
const bootEnv = "UNDERSTUDY_TEST_BOOT"

// A variable, because a child runs its daemon from an init function.
var _ = func() bool {
	if path := os.Getenv(bootEnv); path != "" {
		bootid.Path = path
		cleanEvery, cleanSlack = 100*time.Millisecond, 200*time.Millisecond
	}
	return true
}()

// cutRig is a rig one of whose machines has everything on a disk whose power can be cut.
type cutRig struct {
	*rig
	disk  *powercut.Disk
	boots string // file with the boot ID of the machine on the disk
	boot  int
}

// newCutRig starts both machines; the named one has its data directory and its tree on
// a file system of this kind. before fills the tree, change the settings, and env is
// added to the environment of both.
func newCutRig(t *testing.T, fs, name string, before func(dir string), change func(*Config), env ...string) *cutRig {
	t.Helper()
	store := powercut.NewStore(t, time.Duration(scaled(15, 300))*time.Minute)
	c := &cutRig{disk: store.Disk(fs, name, 1<<30), boots: store.Path("boot_id")}
	c.reboot(t)
	c.rig = newRigWith(t, nil, func(source, target *Config) {
		cut := target
		if name == "indy" {
			cut = source
		}
		cut.Data = filepath.Join(c.disk.At(), "data")
		if change != nil {
			change(cut)
		}
	}, append(env, bootEnv+"="+c.boots)...)
	if name == "indy" {
		c.dir = filepath.Join(c.disk.At(), "tree")
		must(t, os.Mkdir(c.dir, 0o755))
		testfuse.Watchdog(t, c.dir, time.Duration(scaled(15, 300))*time.Minute)
	} else {
		c.replica = filepath.Join(c.disk.At(), "replica")
	}
	if before != nil {
		before(c.dir)
	}
	c.mount()
	c.connect()
	c.usable()
	return c
}

func (c *cutRig) reboot(t testing.TB) {
	t.Helper()
	c.boot++
	must(t, os.WriteFile(c.boots, []byte("boot "+strconv.Itoa(c.boot)), 0o644))
}

func (c *cutRig) snapshot() powercut.Image {
	c.t.Helper()
	i, err := c.disk.Snapshot()
	must(c.t, err)
	return i
}

// differences waits until the pair is settled and counts what differs.
func (c *cutRig) differences() (diffs []string, err error) {
	c.t.Helper()
	waitFor(c.t, "the connection", func() bool { return len(c.source.status().Connections) == 1 })
	c.id = c.source.status().Connections[0].ID
	if err := c.source.ask("settle", control.SettleRequest{ID: c.id, TimeoutMS: 60_000}, nil); err != nil {
		return nil, err
	}
	return sametree.Diff(c.dir, c.replica, sametree.Options{})
}

var cutFileSystems = []string{"ext4", "xfs"}

// TestPowerCutOfTheTarget: the target's disk is what it was at a random moment under
// load, or at a named moment around a sync, and the source knows nothing of it. The
// target goes on from its durable position, and converges: no new epoch, no mirror. On xfs
// its queue loses even what was applied now and then.
func TestPowerCutOfTheTarget(t *testing.T) {
	t.Parallel()
	for n, fs := range cutFileSystems {
		t.Run(fs, func(t *testing.T) {
			t.Parallel()
			c := newCutRig(t, fs, "jersey", nil, nil)
			c.target.closeControl()
			c.target.d.Stop() // the end of the first mirror is durable now
			c.target.start()
			c.settled("before")
			before := c.connection()
			defer c.asleep(c.levels())
			rng := rand.New(rand.NewPCG(51, uint64(n)))
			cuts := scaled(25, 500)
			for i := range cuts {
				what := "at a random moment"
				if i%2 == 1 {
					p := cutPoints[i/2%len(cutPoints)]
					what = "at " + string(p)
					c.cutTargetAt(failpoint.At(p, rng.IntN(3)), i)
				} else {
					c.cutTarget(rng, i)
				}
				c.settled(fmt.Sprintf("%s, cut %d %s", fs, i, what))
				now := c.connection()
				if now.Epoch != before.Epoch || now.MirrorFiles != before.MirrorFiles {
					t.Fatalf("cut %d %s: epoch %s was %s, %d files mirrored, were %d: %s\n%s\n%s", i, what, now.Epoch, before.Epoch,
						now.MirrorFiles, before.MirrorFiles, now.LastError, c.source.d.Log(), c.target.d.Log())
				}
			}
			t.Logf("%s: %d cuts, %d operations", fs, cuts, c.connection().CapturedOp)
		})
	}
}

// TestEarlyConfirmIsSeen: a target that reports a position before it is durable loses what
// the source forgot, and TestPowerCutOfTheTarget would see a new epoch, or what differs. It is
// planted, and the power cut right before the position is written.
func TestEarlyConfirmIsSeen(t *testing.T) {
	t.Parallel()
	c := newCutRig(t, "ext4", "jersey", nil, nil)
	c.settled("before")
	before := c.connection().Epoch
	const most = 12
	for i := range most {
		c.cutTargetAt(string(failpoint.PlantConfirmEarly)+","+failpoint.At(failpoint.PositionBefore, 1+i%3), 2*i)
		diffs, err := c.differences()
		if err != nil || len(diffs) > 0 || c.connection().Epoch != before {
			t.Logf("seen after %d cuts: differences %q, %v", i+1, first(diffs, 3), err)
			return
		}
	}
	t.Fatalf("%d power cuts of a target that confirms too early, and nothing was lost", most)
}

// cutPoints are the moments around what the target makes durable.
var cutPoints = []failpoint.Point{failpoint.SyncBefore, failpoint.SyncAfter, failpoint.PositionBefore, failpoint.PositionAfter,
	failpoint.ConfirmBefore, failpoint.ConfirmAfter, failpoint.PurgeAfter}

// cutTarget cuts the power of the target at a random moment of a load and starts it again.
func (c *cutRig) cutTarget(rng *rand.Rand, i int) {
	c.t.Helper()
	stop := c.load(mixedLoad(i/2), false)
	instant(rng, 400*time.Millisecond)
	left := c.snapshot()
	c.target.kill()
	c.targetWakesUp(left)
	stop()
}

// cutTargetAt cuts it when it reaches a named moment.
func (c *cutRig) cutTargetAt(arm string, i int) {
	c.t.Helper()
	c.target.closeControl()
	c.target.d.Stop()
	c.target.startArmed(arm)
	stop := c.load(mixedLoad(i/2), false)
	waitFor(c.t, "the target's end at "+arm, func() bool { return unix.Kill(c.target.d.PID(), 0) != nil })
	c.targetWakesUp(c.snapshot())
	stop()
}

func (c *cutRig) targetWakesUp(left powercut.Image) {
	c.t.Helper()
	c.disk.Cut(left)
	c.reboot(c.t)
	c.target.start()
}

// TestPowerCutOfTheSource: the source's disk is what it was at a random moment under
// load, while the target lives on and has more. The source notices, begins a new epoch,
// and the target follows it, back where it must.
func TestPowerCutOfTheSource(t *testing.T) {
	t.Parallel()
	for n, fs := range cutFileSystems {
		t.Run(fs, func(t *testing.T) {
			t.Parallel()
			c := newCutRig(t, fs, "indy", nil, nil)
			c.settled("before")
			defer c.asleep(c.levels())
			rng := rand.New(rand.NewPCG(61, uint64(n)))
			limited := 0
			cuts := scaled(25, 500)
			for i := range cuts {
				before := c.connection().Epoch
				c.cutSource(rng, i)
				c.settled(fmt.Sprintf("%s, cut %d", fs, i))
				if c.connection().Epoch == before {
					t.Fatalf("cut %d was not noticed", i)
				}
				if c.limited() {
					limited++
				}
			}
			t.Logf("%s: %d cuts, %d of them with a limited mirror", fs, cuts, limited)
			if limited == 0 {
				t.Error("no mirror was limited: no clean mark was of use")
			}
		})
	}
}

// limited reports whether the source's last start knew what to compare.
func (c *cutRig) limited() bool {
	return strings.Contains(c.source.d.Log(), "looks only at what changed since the clean mark")
}

// cutSource cuts the power of the source at a random moment of a load; the target goes on
// a little longer.
func (c *cutRig) cutSource(rng *rand.Rand, i int) {
	c.t.Helper()
	stop := c.load(mixedLoad(i), true)
	instant(rng, 700*time.Millisecond)
	left := c.snapshot()
	instant(rng, 50*time.Millisecond)
	c.source.kill()
	stop()
	c.sourceWakesUp(left)
}

func (c *cutRig) sourceWakesUp(left powercut.Image) {
	c.t.Helper()
	testfuse.End(c.dir)
	c.disk.Cut(left)
	c.reboot(c.t)
	c.source.start()
}

// TestPowerCutReadsOnlyWhatIsInFlight: of 5,000 files nobody touched none is read again
// after a power cut of the source.
func TestPowerCutReadsOnlyWhatIsInFlight(t *testing.T) {
	t.Parallel()
	const files = 5000
	c := newCutRig(t, "ext4", "indy", func(dir string) {
		for i := range files {
			path := filepath.Join(dir, fmt.Sprintf("d%d/f%d", i%50, i))
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, []byte(strings.Repeat("x", 100+i%4000)), 0o644))
		}
	}, nil)
	c.settled("before")
	c.marked()
	write := func(name string) {
		f, err := os.OpenFile(filepath.Join(c.dir, name), os.O_RDWR|os.O_CREATE, 0o644)
		must(t, err)
		_, err = f.WriteAt([]byte("changed"), 10)
		must(t, err)
		must(t, unix.Fdatasync(int(f.Fd())))
		must(t, f.Close())
	}
	for i := range 20 {
		write(fmt.Sprintf("d%d/f%d", i, i))
		write("new" + strconv.Itoa(i))
	}
	left := c.snapshot()
	c.source.kill()
	c.sourceWakesUp(left)
	c.settled("after the cut")
	m := regexp.MustCompile(`msg="mirror ended".* contents=(\d+)`).FindStringSubmatch(c.source.d.Log())
	if m == nil || !c.limited() {
		t.Fatalf("no limited mirror:\n%s", c.source.d.Log())
	}
	n, err := strconv.Atoi(m[1])
	must(t, err)
	if n < 20 || n > 100 {
		t.Errorf("%d contents were read, 40 files changed", n)
	}
	t.Logf("%d of %d contents read", n, files+20)
}

// marked waits until a clean mark of the present moment is on disk. One under way, in the
// file that is to replace it, is none, nor is one of an epoch before.
func (c *cutRig) marked() {
	c.t.Helper()
	now := c.connection()
	n := &Node{cfg: c.source.cfg}
	waitFor(c.t, "a clean mark", func() bool {
		return slices.ContainsFunc(n.marked(), func(key string) bool {
			m, err := n.readMark(key)
			return err == nil && epochText(m.Epoch) == now.Epoch && uint64(m.Seq) >= now.CapturedOp && !m.SameBoot
		})
	})
	must(c.t, atomicfile.SyncDir(filepath.Join(c.source.cfg.Data, "clean"))) // it is seen a moment before it is durable
}
