package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/internal/sametree"
)

// lacks says which parts are not in text.
func lacks(text string, parts ...string) (missing []string) {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			missing = append(missing, p)
		}
	}
	return missing
}

// refusedConnect is a connect that must be refused.
type refusedConnect struct {
	name string
	req  func(p *pair, r *control.ConnectRequest)
	code control.Code
	want []string // parts of message and remedy
}

var refusedConnects = []refusedConnect{
	{"missing directory", func(p *pair, r *control.ConnectRequest) {
		r.Rules, r.Map = []string{p.base + "/nothing inc, rec"}, map[string]string{p.base + "/nothing": p.replica}
	}, control.BadRequest, []string{"/nothing", "no such file or directory", "create it, or correct the rule"}},
	{"no directory", func(p *pair, r *control.ConnectRequest) {
		r.Rules, r.Map = []string{p.dir + "/file/x inc, rec"}, map[string]string{p.dir + "/file/x": p.replica}
	}, control.BadRequest, []string{"/file", "not a directory", "correct the rule"}},
	{"directory through a symbolic link", func(p *pair, r *control.ConnectRequest) {
		r.Rules, r.Map = []string{p.base + "/link/sub inc, rec"}, map[string]string{p.base + "/link/sub": p.replica}
	}, control.BadRequest, []string{"/link/sub", "symbolic link", "/tree/sub itself"}},
	{"rule with a typo", func(p *pair, r *control.ConnectRequest) { r.Rules = []string{p.dir + " inc, recc"} },
		control.BadRequest, []string{"recc", "inc, exc, rec nor norec"}},
	{"target path inside the set on one machine", func(p *pair, r *control.ConnectRequest) {
		r.Target, r.Address, r.Map = "indy", p.source.Addr(), map[string]string{p.dir: p.dir + "/sub"}
	}, control.Refused, []string{"/tree/sub lies inside", "choose a target path"}},
	{"target path inside the set by a symbolic link", func(p *pair, r *control.ConnectRequest) {
		r.Target, r.Address, r.Map = "indy", p.source.Addr(), map[string]string{p.dir: p.base + "/link/sub"}
	}, control.Refused, []string{"lies inside", "choose a target path"}},
	{"set inside the target path on one machine", func(p *pair, r *control.ConnectRequest) {
		r.Target, r.Address, r.Map = "indy", p.source.Addr(), map[string]string{p.dir: p.base}
	}, control.Refused, []string{"choose a"}},
	{"exact mapping on one machine", func(p *pair, r *control.ConnectRequest) {
		r.Target, r.Address, r.Map = "indy", p.source.Addr(), nil
	}, control.Refused, []string{"one-to-one mapping needs a second machine", "choose a base or custom path"}},
	{"two roots into one place", func(p *pair, r *control.ConnectRequest) {
		r.Rules = []string{p.dir + " inc, rec", p.base + "/other inc, rec"}
		r.Map = map[string]string{p.dir: p.replica, p.base + "/other": p.replica + "/below"}
	}, control.BadRequest, []string{"replica/below", "map them to directories that lie apart"}},
	{"root without a place", func(p *pair, r *control.ConnectRequest) { r.Map = map[string]string{p.base + "/other": p.replica} },
		control.BadRequest, []string{"nothing says where", "add a pair for it"}},
	{"relative target path", func(p *pair, r *control.ConnectRequest) { r.Map = map[string]string{p.dir: "replica"} },
		control.BadRequest, []string{`"replica"`, "absolute path"}},
	{"root of the target's file system", func(p *pair, r *control.ConnectRequest) { r.Map = map[string]string{p.dir: "/"} },
		control.BadRequest, []string{"root of the target's file system", "name a directory"}},
	{"target path in the data directory", func(p *pair, r *control.ConnectRequest) { r.Map = map[string]string{p.dir: p.base + "/jersey/x"} },
		control.Refused, []string{"overlaps the data directory", "choose another target path"}},
	{"target path is a file", func(p *pair, r *control.ConnectRequest) { r.Map = map[string]string{p.dir: p.dir + "/file"} },
		control.Refused, []string{"not a directory", "choose"}},
	{"target path below a file", func(p *pair, r *control.ConnectRequest) { r.Map = map[string]string{p.dir: p.dir + "/file/x"} },
		control.Refused, []string{"not a directory", "choose"}},
	{"target not empty", func(p *pair, r *control.ConnectRequest) { r.Map = map[string]string{p.dir: p.base + "/used"} },
		control.Refused, []string{"/used is not empty", "adopt"}},
	{"data directory inside the set", func(p *pair, r *control.ConnectRequest) {
		r.Rules, r.Map = []string{p.base + " inc, rec"}, map[string]string{p.base: p.base + "-elsewhere"}
	}, control.Refused, []string{"data directory", "/indy", "move it"}},
	{"wrong target name", func(p *pair, r *control.ConnectRequest) { r.Target = "oslo" },
		control.Denied, []string{"not paired with oslo", "understudy pair join"}},
	{"target not running", func(p *pair, r *control.ConnectRequest) { r.Address = "127.0.0.1:1" },
		control.Unreachable, []string{"127.0.0.1:1", "is the target running"}},
	{"no address", func(p *pair, r *control.ConnectRequest) { r.Address = "jersey" }, control.BadRequest, []string{"address", "HOST:PORT"}},
	{"not mounted", func(p *pair, r *control.ConnectRequest) { r.Capture = "stacked" },
		control.NotReady, []string{"not captured in write order", "understudy mount"}},
}

// TestBadInputOfConnect: a connect that cannot work is refused with an error that
// names the remedy; nothing is changed and nothing goes on working.
func TestBadInputOfConnect(t *testing.T) {
	p := newPair(t, false)
	must(t, os.WriteFile(p.dir+"/file", []byte("content"), 0o644))
	for _, d := range []string{p.base + "/used", p.base + "/other"} {
		must(t, os.Mkdir(d, 0o755))
	}
	must(t, os.WriteFile(p.base+"/used/important", []byte("not ours"), 0o600))
	must(t, os.Mkdir(p.dir+"/sub", 0o755))
	must(t, os.Symlink("tree", p.base+"/link"))
	stranger := p.start("stranger")
	waitFor(t, "both to hear each other", func() bool {
		_, source := p.target.lastHeard("indy")
		_, target := p.source.lastHeard("jersey")
		return source && target
	})
	for _, c := range append(refusedConnects, refusedConnect{"not paired", func(p *pair, r *control.ConnectRequest) {
		r.Target, r.Address = "stranger", stranger.Addr()
	}, control.Denied, []string{"not paired with stranger", "understudy pair join"}}) {
		t.Run(c.name, func(t *testing.T) { p.refuses(t, c) })
	}
}

// refuses asks for the connection and looks whether anything changed.
func (p *pair) refuses(t *testing.T, c refusedConnect) {
	req := control.ConnectRequest{Set: "tree", Rules: []string{p.dir + " inc, rec"}, Target: "jersey", Address: p.target.Addr(),
		Map: map[string]string{p.dir: p.replica}, Capture: "inotify"}
	c.req(p, &req)
	before, goroutines := p.everything(t), runtime.NumGoroutine()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := p.source.Connect(ctx, req)
	var ce *control.Error
	if !errors.As(err, &ce) {
		t.Fatalf("answered %v", err)
	}
	if m := lacks(ce.Error(), c.want...); len(m) > 0 || ce.Code != c.code {
		t.Errorf("code %s, %q, hint %q lacks %q (code %s)", ce.Code, ce.Msg, ce.Hint, m, c.code)
	}
	sametree.CheckTrees(t, before, p.everything(t), sametree.Options{})
	if st, tt := p.source.Status(), p.target.Status(); len(st.Connections) > 0 || len(st.Captures) > 0 || len(tt.Replicas)+len(st.Replicas) > 0 {
		t.Errorf("something was left: %+v, %+v", st, tt)
	}
	waitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// everything is the pair's base without what the nodes keep for themselves.
func (p *pair) everything(t testing.TB) *sametree.Tree {
	t.Helper()
	tree, err := sametree.Snapshot(p.base)
	must(t, err)
	for path := range tree.Nodes {
		top, _, below := strings.Cut(path, "/")
		if below && (top == "indy" || top == "jersey" || top == "stranger") {
			delete(tree.Nodes, path)
		}
	}
	return tree
}

// TestTwoSourcesIntoOnePlace: a second source's target path that overlaps the first's
// is refused, and the first goes on; so is the same connection made twice.
func TestTwoSourcesIntoOnePlace(t *testing.T) {
	p := newPair(t, false)
	must(t, os.WriteFile(p.dir+"/file", []byte("content"), 0o644))
	p.connect()
	p.settle()
	third := p.start("oslo")
	req := control.ConnectRequest{Set: "more", Rules: []string{p.dir + " inc, rec"}, Target: "jersey", Address: p.target.Addr(), Capture: "inotify", Adopt: true}
	for _, to := range []string{p.replica, p.replica + "/below", p.base} {
		for _, n := range []*Node{third, p.source} {
			req.Map = map[string]string{p.dir: to}
			_, err := n.Connect(context.Background(), req)
			if err == nil || len(lacks(err.Error(), p.replica, "indy, set tree", "map one of them elsewhere")) > 0 && to != p.base {
				t.Errorf("%s into %s: %v", n.Name(), to, err)
			}
		}
	}
	req.Set, req.Map = "tree", map[string]string{p.dir: p.base + "/new"}
	if _, err := p.source.Connect(context.Background(), req); err == nil || len(lacks(err.Error(), "connected to jersey already", "disconnect")) > 0 {
		t.Errorf("the same connection twice: %v", err)
	}
	must(t, os.WriteFile(p.dir+"/later", []byte("content"), 0o644))
	p.settle()
	p.same()
}

// TestAdoptComparesAndOverwrites: with adopt a directory that holds files becomes the
// replica; what is equal stays as it is, what differs is overwritten.
func TestAdoptComparesAndOverwrites(t *testing.T) {
	p := newPair(t, false)
	must(t, os.Mkdir(p.replica, 0o755))
	for name, text := range map[string]string{"same": "equal", "other": "source's", "dir/deep": "deep"} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(p.dir, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o640))
	}
	must(t, os.WriteFile(p.replica+"/same", []byte("equal"), 0o640))
	must(t, os.WriteFile(p.replica+"/other", []byte("target's own"), 0o600))
	must(t, os.WriteFile(p.replica+"/dir", []byte("a file where a directory goes"), 0o600))
	var before, after unix.Stat_t
	must(t, unix.Stat(p.replica+"/same", &before))
	req := control.ConnectRequest{Set: "tree", Rules: []string{p.dir + " inc, rec"}, Target: "jersey", Address: p.target.Addr(),
		Map: map[string]string{p.dir: p.replica}, Capture: "inotify", Adopt: true}
	var err error
	p.id, err = p.source.Connect(context.Background(), req)
	must(t, err)
	p.settle()
	p.same()
	must(t, unix.Stat(p.replica+"/same", &after))
	if before.Ino != after.Ino {
		t.Errorf("an equal file was made anew")
	}
}

// TestReadOnlyTarget: refused with a remedy; once writable, it works.
func TestReadOnlyTarget(t *testing.T) {
	needRoot(t)
	p := newPair(t, false)
	must(t, os.WriteFile(p.dir+"/file", []byte("content"), 0o644))
	small := tinyDisk(t, p.base, "8m")
	must(t, unix.Mount("", small, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	p.replica = small + "/replica"
	p.refuses(t, refusedConnect{"read-only target", func(*pair, *control.ConnectRequest) {}, control.Refused,
		[]string{small, "read-only file system", "make it writable, or choose another path"}})
	must(t, unix.Mount("", small, "", unix.MS_REMOUNT, ""))
	p.connect()
	p.settle()
	p.same()
}

// tinyDisk mounts a tmpfs of a size below base.
func tinyDisk(t testing.TB, base, size string) string {
	t.Helper()
	dir := filepath.Join(base, "disk")
	must(t, os.Mkdir(dir, 0o755))
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestFullTargetWaitsInOrder (B8.19): a target without room says so and waits; nothing
// overtakes what waits; with room again it goes on by itself.
func TestFullTargetWaitsInOrder(t *testing.T) {
	needRoot(t)
	p := newPair(t, true)
	p.replica = tinyDisk(t, p.base, "2m") + "/replica"
	p.t.Cleanup(p.stop) // before the disk goes
	p.mount()
	p.connect()
	waitFor(t, "the first mirror", func() bool { return p.applier().Position().Usable() })
	p.shell(`head -c 4000000 /dev/urandom >large; echo small >later; mv later latest`)
	status := func() control.Connection { return p.source.Status().Connections[0] }
	waitFor(t, "the target to be full", func() bool { return status().TargetState == "Retrying" })
	if st := status(); len(lacks(st.LastError, "no space left on device")) > 0 || st.QueuedOps == 0 {
		t.Errorf("status %+v", st)
	}
	if st := p.target.Status().Replicas[0]; st.State != "Retrying" || len(lacks(st.LastError, "no space left on device")) > 0 {
		t.Errorf("status of the target %+v", st)
	}
	for _, name := range []string{"later", "latest"} {
		if _, err := os.Lstat(filepath.Join(p.replica, name)); err == nil {
			t.Errorf("%s overtook what waits", name)
		}
	}
	must(t, unix.Mount("", filepath.Dir(p.replica), "", unix.MS_REMOUNT, "size=16m"))
	p.settle()
	p.same()
	if st := status(); st.TargetState != "OK" || st.LastError != "" {
		t.Errorf("status after the end of the trouble %+v", st)
	}
}

// shell works in the protected directory, into which it changes after its exec.
func (p *pair) shell(script string) {
	p.t.Helper()
	if out, err := exec.Command("bash", "-euc", "cd '"+p.dir+"'; "+script).CombinedOutput(); err != nil {
		p.t.Fatalf("%v\n%s", err, out)
	}
}

// TestBadInputOfOpen: a node that cannot start says why and what to do, and leaves
// nothing behind; what is wrong in the settings is told at once.
func TestBadInputOfOpen(t *testing.T) {
	p := newPair(t, false)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer busy.Close()
	must(t, os.WriteFile(p.base+"/file", nil, 0o600))
	state := func(dir, text string) string {
		dir = filepath.Join(p.base, dir)
		must(t, os.Mkdir(dir, 0o700))
		must(t, os.WriteFile(dir+"/state.json", []byte(text), 0o600))
		return dir
	}
	for _, c := range []struct {
		name string
		set  func(*Config)
		want []string
	}{
		{"second daemon", func(c *Config) { c.Data = p.base + "/indy" },
			[]string{"in use", "another daemon runs on " + p.base + "/indy", "stop it or choose another data directory"}},
		{"port in use", func(c *Config) { c.Listen = busy.Addr().String() },
			[]string{"cannot listen on " + busy.Addr().String(), "address already in use", "choose another port"}},
		{"address of another machine", func(c *Config) { c.Listen = "192.0.2.1:6320" }, []string{"192.0.2.1:6320", "cannot assign requested address"}},
		{"all addresses, unwritten", func(c *Config) { c.Listen = ":6320" }, []string{"listen", "0.0.0.0 for all"}},
		{"port no number", func(c *Config) { c.Listen = "127.0.0.1:http" }, []string{"listen", "127.0.0.1:http"}},
		{"data directory is a file", func(c *Config) { c.Data = p.base + "/file" }, []string{"data directory", "/file", "not a directory"}},
		{"several at once", func(c *Config) { c.Name, c.Data, c.QueueLimit, c.NetworkRetry = "not a name", "relative", 5, 0 },
			[]string{"name:", "data:", "queue_limit:", "network_retry:"}},
		{"connection", func(c *Config) { c.Connections = []ConnectionConfig{{Capture: "guess", Target: "x"}} },
			[]string{"connections[0]", "set:", "address:", "capture:", "auto, stacked, fanotify or inotify", "rules"}},
		{"damaged state", func(c *Config) { c.Data = state("damaged", "{oops") }, []string{"state.json", "damaged", "move"}},
		{"state of a later version", func(c *Config) { c.Data = state("later", `{"version": 99}`) }, []string{"version 99", "move the data directory away"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Name, cfg.Data, cfg.Listen = "venice", filepath.Join(p.base, "venice"), "127.0.0.1:0"
			c.set(&cfg)
			before := sametree.Tree{}
			if tree, err := sametree.Snapshot(p.base + "/indy"); err == nil {
				before = *tree
			}
			others := goleak.IgnoreCurrent()
			n, err := Open(cfg, testLog(t))
			if err == nil {
				n.stop(nil)
				t.Fatal("it opened")
			}
			if m := lacks(err.Error(), c.want...); len(m) > 0 {
				t.Errorf("%q lacks %q", err, m)
			}
			after, err := sametree.Snapshot(p.base + "/indy")
			must(t, err)
			sametree.CheckTrees(t, &before, after, sametree.Options{})
			var left error
			if !within(sleepWithin, func() bool { left = goleak.Find(others); return left == nil }) {
				t.Errorf("goroutines that do not end: %v", left)
			}
		})
	}
	cfg := DefaultConfig() // what failed holds nothing
	cfg.Name, cfg.Data, cfg.Listen = "venice", filepath.Join(p.base, "venice"), "127.0.0.1:0"
	n, err := Open(cfg, testLog(t))
	must(t, err)
	must(t, n.stop(nil))
}

// TestBadInputOfMount: what cannot be mounted is refused, and nothing mounted.
func TestBadInputOfMount(t *testing.T) {
	needRoot(t)
	p := newPair(t, true)
	must(t, os.WriteFile(p.base+"/file", nil, 0o600))
	for dir, want := range map[string]string{
		p.base + "/nothing": "no such file or directory",
		p.base + "/file":    "not a directory",
		"relative":          "absolute path",
		"/":                 "cannot be captured; choose the directories that matter",
		p.base:              "the data directory " + p.base + "/indy lies inside (move it elsewhere (--data))",
	} {
		_, err := p.source.Mount(context.Background(), dir)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("mount %s: %v", dir, err)
		}
	}
	p.mount()
	if _, err := p.source.Mount(context.Background(), p.dir); err == nil || !strings.Contains(err.Error(), "captured already") {
		t.Errorf("mounted twice: %v", err)
	}
	p.connect()
	if err := p.source.Umount(context.Background(), p.dir); err == nil || len(lacks(err.Error(), "used by 1 connection", "disconnect first")) > 0 {
		t.Errorf("unmounted under a connection: %v", err)
	}
	if err := p.source.Umount(context.Background(), p.base); err == nil || !strings.Contains(err.Error(), "is not captured in write order") {
		t.Errorf("unmounted what is not: %v", err)
	}
	if got := fmt.Sprint(p.source.Status().Captures); strings.Count(got, "stacked") != 1 {
		t.Errorf("captures %s", got)
	}
}
