package tasks

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy/control"
)

// TestTaskSeesTheSourceAtItsMoment: at ONEXECUTE the target equals the source at the
// moment of the command, though the target is far behind and the source has gone on
// (B8.31); ONRECEIVE comes while the target is paused, ONEXECUTE waits (B10.55).
func TestTaskSeesTheSourceAtItsMoment(t *testing.T) {
	p := newPair(t)
	snap := p.script("snap", `cp -a "$UNDERSTUDY_PATHS" "$1" && echo "usable $UNDERSTUDY_USABLE"`)
	came := p.script("came", `echo "$UNDERSTUDY_JOB $UNDERSTUDY_POINT $UNDERSTUDY_SOURCE $UNDERSTUDY_TARGET $UNDERSTUDY_SET"`)
	p.pause(true)
	var tasks []string
	for i := range 3 {
		for k := range 200 {
			p.write(fmt.Sprint("f", k), strings.Repeat(fmt.Sprint(i, k, " "), 50+k))
		}
		must(t, os.Rename(filepath.Join(p.dir, "f1"), filepath.Join(p.dir, fmt.Sprint("was", i))))
		must(t, os.MkdirAll(filepath.Join(p.dir, fmt.Sprint("d", i), "e"), 0o750))
		p.copy(p.dir, p.file(fmt.Sprint("want", i)))
		tasks = append(tasks, p.queue(control.TaskRequest{Job: fmt.Sprint("snap ", i), TimeoutMS: -1, OnReceive: came,
			OnExecute: &control.TaskProgram{Path: snap.Path, Args: []string{p.file(fmt.Sprint("got", i))}}}))
	}
	p.write("later", "x")
	for i, task := range tasks {
		if got := p.target.ends(task, "onreceive"); got.State != "succeeded" || got.Output != fmt.Sprintf("snap %d onreceive indy jersey tree\n", i) {
			t.Fatalf("onreceive: %+v", got)
		}
	}
	if exists(p.file("got0")) || p.target.point(tasks[0], "onexecute").State != "" {
		t.Fatal("executed while the target is paused")
	}
	p.pause(false)
	for i, task := range tasks {
		if got := p.target.ends(task, "onexecute"); got.State != "succeeded" || got.Output != "usable 1\n" {
			t.Fatalf("onexecute: %+v", got)
		}
		same(t, p.file(fmt.Sprint("want", i)), p.file(fmt.Sprint("got", i)))
	}
	p.settle()
	same(t, p.dir, p.replica)
}

// TestTaskPoints: four programs of one command run once each, in their order, on the
// machine of their point, with arguments nobody interprets.
func TestTaskPoints(t *testing.T) {
	p := newPair(t)
	note := p.script("note", `echo "$UNDERSTUDY_POINT $1" >> `+p.file("order")+`; for a in "$@"; do echo "<$a>"; done; pwd`)
	at := func(point string) *control.TaskProgram {
		return &control.TaskProgram{Path: note.Path, Args: []string{point, "a b", "$(touch " + p.file("injected") + ")", "; exit 9", ""}}
	}
	task := p.queue(control.TaskRequest{Job: "all", TimeoutMS: 60_000, OnQueue: at("1"), OnTransmit: at("2"), OnReceive: at("3"), OnExecute: at("4")})
	p.settle()
	if want := []string{"onqueue 1", "ontransmit 2", "onreceive 3", "onexecute 4"}; !slices.Equal(p.lines("order"), want) {
		t.Fatalf("order: %q", p.lines("order"))
	}
	for m, points := range map[*machine][]string{p.source: {"onqueue", "ontransmit"}, p.target: {"onreceive", "onexecute"}} {
		for _, point := range points {
			got := m.point(task, point)
			if got.State != "succeeded" || got.Exit != 0 || !strings.HasSuffix(got.Output, "<a b>\n<$(touch "+p.file("injected")+")>\n<; exit 9>\n<>\n/\n") {
				t.Errorf("%s: %+v", point, got)
			}
		}
	}
	if exists(p.file("injected")) {
		t.Error("an argument was interpreted")
	}
	for m, id := range map[*machine]int{p.source: 4203, p.target: 4203} {
		if m.happened(id) != 2 || m.happened(4202) != 2 {
			t.Errorf("%s: %d programs told", m.cfg.Name, m.happened(id))
		}
	}
	if p.target.happened(4200) != 1 {
		t.Error("the arrival was not told")
	}
	var list control.TaskList
	waitFor(t, "the source's word that it is done", func() bool {
		p.source.ask("tasks", control.TasksRequest{Job: "all"}, &list)
		return len(list.Tasks) == 1 && list.Tasks[0].State == "done"
	})
}

// TestTaskTimeouts: the queue waits as long as the timeout says (B8.33): to its end with
// FOREVER, up to the time otherwise, when everything the program started is ended, and
// not at all with 0. What fails is told and stops nothing (B8.39).
func TestTaskTimeouts(t *testing.T) {
	p := newPair(t)
	waits := p.script("waits", `echo $$ > `+p.file("pid")+`; while [ ! -e `+p.file("go")+` ]; do sleep 0.05; done`)
	arrived := func(name string) bool { return exists(filepath.Join(p.replica, name)) }

	forever := p.queue(control.TaskRequest{Job: "forever", TimeoutMS: -1, OnExecute: waits})
	p.write("behind", "x")
	waitFor(t, "the program", func() bool { return exists(p.file("pid")) })
	pausing := make(chan error, 1)
	go func() { pausing <- p.pauser().try("target", control.PauseRequest{Pause: true}, nil) }()
	waitFor(t, "Pause Pending while the program runs (B10.52)", func() bool {
		r := p.target.status().Replicas[0]
		return r.State == "Pause Pending" && r.Task == "forever"
	})
	if arrived("behind") {
		t.Fatal("the queue did not wait")
	}
	must(t, os.WriteFile(p.file("go"), nil, 0o644))
	must(t, <-pausing)
	if st := p.target.status().Replicas[0].State; st != "Paused" || p.target.ends(forever, "onexecute").State != "succeeded" {
		t.Fatalf("after the program: %s", st)
	}
	p.pause(false)
	p.settle()

	must(t, os.Remove(p.file("go")))
	aside := p.queue(control.TaskRequest{Job: "aside", TimeoutMS: 0, OnExecute: waits})
	p.write("aside", "x")
	p.settle()
	if !arrived("aside") || p.target.point(aside, "onexecute").State != "running" {
		t.Fatal("the queue waited for a program with timeout 0")
	}
	must(t, os.WriteFile(p.file("go"), nil, 0o644))
	p.target.ends(aside, "onexecute")

	family := p.script("family", `(sleep 300; echo no) & echo $! > `+p.file("child")+`; sleep 300`)
	timed := p.queue(control.TaskRequest{Job: "timed", TimeoutMS: 300, OnExecute: family})
	p.write("timed", "x")
	p.settle()
	if got := p.target.point(timed, "onexecute"); got.State != "timed out" || !arrived("timed") || p.target.happened(4205) != 1 {
		t.Fatalf("timeout: %+v", got)
	}
	child := p.lines("child")[0]
	waitFor(t, "end of the program's child", func() bool { return ended(child) })
	p.refused()
	p.failing()
}

// pauser is another caller of the target, for requests that wait.
func (p *pair) pauser() *machine {
	m := *p.target
	m.ctl = nil
	return &m
}

// ended reports that a process is gone or dead.
func ended(pid string) bool {
	raw, err := os.ReadFile("/proc/" + pid + "/stat")
	return err != nil || strings.Contains(string(raw), ") Z ")
}

// failing: programs that fail, are not there, or print too much.
func (p *pair) failing() {
	p.t.Helper()
	for _, c := range []struct {
		program *control.TaskProgram
		state   string
		exit    int
		event   int
	}{
		{p.script("three", "echo oops >&2; exit 3"), "failed", 3, 20040},
		{&control.TaskProgram{Path: p.file("missing")}, "failed", 127, 4204},
		{p.script("killed", "kill -9 $$"), "failed", -1, 4204},
		{p.script("talks", "head -c 300000 /dev/zero | tr '\\0' x"), "succeeded", 0, 4203},
	} {
		before := p.target.happened(c.event)
		task := p.queue(control.TaskRequest{Job: "fails", TimeoutMS: 60_000, OnExecute: c.program})
		p.settle()
		got := p.target.point(task, "onexecute")
		if got.State != c.state || got.Exit != c.exit || p.target.happened(c.event) != before+1 || len(got.Output) > 66<<10 {
			p.t.Errorf("%s: state %s, exit %d, %d bytes: %s", c.program.Path, got.State, got.Exit, len(got.Output), got.Err)
		}
	}
}

// refused: what no machine would run, and what the switch of each says.
func (p *pair) refused() {
	p.t.Helper()
	note := p.script("ran", "touch "+p.file("ran-$UNDERSTUDY_POINT"))
	for what, req := range map[string]control.TaskRequest{
		"nothing to run": {Job: "x"}, "a relative path": {Job: "x", OnQueue: &control.TaskProgram{Path: "bin/true"}},
		"another target": {Job: "x", Target: "oslo", OnQueue: note}, "another set": {Job: "x", Set: "other", OnQueue: note},
		"a job of two lines": {Job: "a\nb", OnQueue: note}, "a negative time": {Job: "x", TimeoutMS: -5, OnQueue: note},
	} {
		if req.Target == "" {
			req.Target = "jersey"
		}
		if err := p.source.try("task", req, nil); err == nil {
			p.t.Errorf("%s: accepted", what)
		}
	}
	p.source.ask("setting.set", control.SettingRequest{Name: "EnableTaskCmdProcessing", Value: "0"}, nil)
	if err := p.source.try("task", control.TaskRequest{Job: "x", Target: "jersey", OnQueue: note}, nil); err == nil {
		p.t.Error("accepted where the only machine it concerns is switched off")
	}
	task := p.queue(control.TaskRequest{Job: "local", TimeoutMS: 60_000, OnTransmit: note, OnExecute: note}) // B8.28
	p.settle()
	if !exists(p.file("ran-onexecute")) || exists(p.file("ran-ontransmit")) || p.source.point(task, "ontransmit").State != "ignored" || p.source.happened(4207) != 1 {
		p.t.Error("the switch is not each machine's own")
	}
	p.source.ask("setting.set", control.SettingRequest{Name: "EnableTaskCmdProcessing", Value: "1"}, nil)
}

// TestTaskRunsAtMostOnce: a target killed while a program runs ends it and everything it
// started, tells of it and does not start it again; tasks behind it run once; tasks are
// not lost by kills at other moments.
func TestTaskRunsAtMostOnce(t *testing.T) {
	p := newPair(t)
	slow := p.script("slow", `echo "$1" >> `+p.file("slow-ran")+`; (setsid sleep 300 & echo $! > `+p.file("left")+`); sleep 300`)
	quick := p.script("quick", `echo "$1" >> `+p.file("ran"))
	arg := func(s *control.TaskProgram, i int) *control.TaskProgram {
		return &control.TaskProgram{Path: s.Path, Args: []string{fmt.Sprint(i)}}
	}
	hung := p.queue(control.TaskRequest{Job: "slow", TimeoutMS: -1, OnExecute: arg(slow, 0)})
	waitFor(t, "the slow program", func() bool { return len(p.lines("left")) == 1 })
	want := []string{}
	for i := range 5 {
		p.write(fmt.Sprint("w", i), "x")
		p.queue(control.TaskRequest{Job: "quick", TimeoutMS: 60_000, OnExecute: arg(quick, i)})
		want = append(want, fmt.Sprint(i))
	}
	p.target.kill()
	p.target.start()
	p.settle()
	if got := p.target.point(hung, "onexecute"); got.State != "interrupted" || len(p.lines("slow-ran")) != 1 || p.target.happened(4204) != 1 {
		t.Errorf("the interrupted program: %+v, started %d times, told %d times", got, len(p.lines("slow-ran")), p.target.happened(4204))
	}
	waitFor(t, "end of what it left", func() bool { return ended(p.lines("left")[0]) })
	for i := range 10 {
		p.write(fmt.Sprint("v", i), "x")
		p.queue(control.TaskRequest{Job: "quick", TimeoutMS: 60_000, OnExecute: arg(quick, 100+i)})
		want = append(want, fmt.Sprint(100+i))
		if i%4 == 1 {
			time.Sleep(time.Duration(i) * 7 * time.Millisecond) // another moment each time
			p.target.kill()
			p.target.start()
		}
	}
	p.settle()
	told := p.target.happened(4204) - 1 // kills in the midst of one
	if got := p.lines("ran"); !slices.Equal(got, want) && (told == 0 || len(got)+told < len(want) || !slices.IsSorted(trim(got)) || len(slices.Compact(slices.Clone(got))) != len(got)) {
		t.Errorf("ran %q, want %q; %d interrupted", got, want, told)
	}
	same(t, p.dir, p.replica)
}

// trim makes numbers comparable as text.
func trim(list []string) (out []string) {
	for _, s := range list {
		out = append(out, fmt.Sprintf("%04s", s))
	}
	return out
}

// TestTaskGoesDownWithItsQueue: what the target did not confirm when its queue ended is
// told (4201), and what stood in the source's queue is not run later.
func TestTaskGoesDownWithItsQueue(t *testing.T) {
	p := newPair(t)
	note := p.script("note", `touch `+p.file("ran"))
	p.source.ask("transmission", control.TransmissionRequest{ID: p.con, Action: "pause"}, nil)
	task := p.queue(control.TaskRequest{Job: "lost", TimeoutMS: 60_000, OnQueue: p.script("queued", "touch "+p.file("queued")), OnTransmit: note, OnExecute: note})
	if got := p.source.ends(task, "onqueue"); got.State != "succeeded" || !exists(p.file("queued")) {
		t.Fatalf("onqueue waits for the transmission: %+v", got)
	}
	p.source.ask("disconnect", control.IDRequest{ID: p.con}, nil)
	if p.source.happened(4201) != 1 || exists(p.file("ran")) {
		t.Error("it was not given up")
	}
}
