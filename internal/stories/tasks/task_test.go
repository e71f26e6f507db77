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
			p.Write(fmt.Sprint("f", k), strings.Repeat(fmt.Sprint(i, k, " "), 50+k))
		}
		must(t, os.Rename(filepath.Join(p.Dir, "f1"), filepath.Join(p.Dir, fmt.Sprint("was", i))))
		must(t, os.MkdirAll(filepath.Join(p.Dir, fmt.Sprint("d", i), "e"), 0o750))
		p.Copy(p.Dir, p.file(fmt.Sprint("want", i)))
		tasks = append(tasks, p.queue(control.TaskRequest{Job: fmt.Sprint("snap ", i), TimeoutMS: -1, OnReceive: came,
			OnExecute: &control.TaskProgram{Path: snap.Path, Args: []string{p.file(fmt.Sprint("got", i))}}}))
	}
	p.Write("later", "x")
	for i, task := range tasks {
		if got := endOf(p.Target, task, "onreceive"); got.State != "succeeded" || got.Output != fmt.Sprintf("snap %d onreceive indy jersey tree\n", i) {
			t.Fatalf("onreceive: %+v", got)
		}
	}
	if exists(p.file("got0")) || pointOf(p.Target, tasks[0], "onexecute").State != "" {
		t.Fatal("executed while the target is paused")
	}
	p.pause(false)
	for i, task := range tasks {
		if got := endOf(p.Target, task, "onexecute"); got.State != "succeeded" || got.Output != "usable 1\n" {
			t.Fatalf("onexecute: %+v", got)
		}
		same(t, p.file(fmt.Sprint("want", i)), p.file(fmt.Sprint("got", i)))
	}
	p.Settle()
	same(t, p.Dir, p.Replica)
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
	p.Settle()
	if want := []string{"onqueue 1", "ontransmit 2", "onreceive 3", "onexecute 4"}; !slices.Equal(p.lines("order"), want) {
		t.Fatalf("order: %q", p.lines("order"))
	}
	for m, points := range map[*machine][]string{p.Source: {"onqueue", "ontransmit"}, p.Target: {"onreceive", "onexecute"}} {
		for _, point := range points {
			got := pointOf(m, task, point)
			if got.State != "succeeded" || got.Exit != 0 || !strings.HasSuffix(got.Output, "<a b>\n<$(touch "+p.file("injected")+")>\n<; exit 9>\n<>\n/\n") {
				t.Errorf("%s: %+v", point, got)
			}
		}
	}
	if exists(p.file("injected")) {
		t.Error("an argument was interpreted")
	}
	for m, id := range map[*machine]int{p.Source: 4203, p.Target: 4203} {
		if m.Happened(id) != 2 || m.Happened(4202) != 2 {
			t.Errorf("%s: %d programs told", m.Cfg.Name, m.Happened(id))
		}
	}
	if p.Target.Happened(4200) != 1 {
		t.Error("the arrival was not told")
	}
	var list control.TaskList
	waitFor(t, "the source's word that it is done", func() bool {
		p.Source.Ask("tasks", control.TasksRequest{Job: "all"}, &list)
		return len(list.Tasks) == 1 && list.Tasks[0].State == "done"
	})
}

// TestTaskTimeouts: the queue waits as long as the timeout says (B8.33): to its end with
// FOREVER, up to the time otherwise, when everything the program started is ended, and
// not at all with 0. What fails is told and stops nothing (B8.39).
func TestTaskTimeouts(t *testing.T) {
	p := newPair(t)
	waits := p.script("waits", `echo $$ > `+p.file("pid")+`; while [ ! -e `+p.file("go")+` ]; do sleep 0.05; done`)
	arrived := func(name string) bool { return exists(filepath.Join(p.Replica, name)) }

	forever := p.queue(control.TaskRequest{Job: "forever", TimeoutMS: -1, OnExecute: waits})
	p.Write("behind", "x")
	waitFor(t, "the program", func() bool { return exists(p.file("pid")) })
	pausing := make(chan error, 1)
	other := p.Target.Other()
	go func() { pausing <- other.Try("target", control.PauseRequest{Pause: true}, nil) }()
	waitFor(t, "Pause Pending while the program runs (B10.52)", func() bool {
		r := p.Target.Status().Replicas[0]
		return r.State == "Pause Pending" && r.Task == "forever"
	})
	if arrived("behind") {
		t.Fatal("the queue did not wait")
	}
	must(t, os.WriteFile(p.file("go"), nil, 0o644))
	must(t, <-pausing)
	if st := p.Target.Status().Replicas[0].State; st != "Paused" || endOf(p.Target, forever, "onexecute").State != "succeeded" {
		t.Fatalf("after the program: %s", st)
	}
	p.pause(false)
	p.Settle()

	must(t, os.Remove(p.file("go")))
	aside := p.queue(control.TaskRequest{Job: "aside", TimeoutMS: 0, OnExecute: waits})
	p.Write("aside", "x")
	p.Settle()
	if !arrived("aside") || pointOf(p.Target, aside, "onexecute").State != "running" {
		t.Fatal("the queue waited for a program with timeout 0")
	}
	must(t, os.WriteFile(p.file("go"), nil, 0o644))
	endOf(p.Target, aside, "onexecute")

	family := p.script("family", `(sleep 300; echo no) & echo $! > `+p.file("child")+`; sleep 300`)
	timed := p.queue(control.TaskRequest{Job: "timed", TimeoutMS: 300, OnExecute: family})
	p.Write("timed", "x")
	p.Settle()
	if got := pointOf(p.Target, timed, "onexecute"); got.State != "timed out" || !arrived("timed") || p.Target.Happened(4205) != 1 {
		t.Fatalf("timeout: %+v", got)
	}
	child := p.lines("child")[0]
	waitFor(t, "end of the program's child", func() bool { return ended(child) })
	p.refused()
	p.failing()
}

// ended reports that a process is gone or dead.
func ended(pid string) bool {
	raw, err := os.ReadFile("/proc/" + pid + "/stat")
	return err != nil || strings.Contains(string(raw), ") Z ")
}

// failing: programs that fail, are not there, or print too much.
func (p *pair) failing() {
	p.T.Helper()
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
		before := p.Target.Happened(c.event)
		task := p.queue(control.TaskRequest{Job: "fails", TimeoutMS: 60_000, OnExecute: c.program})
		p.Settle()
		got := pointOf(p.Target, task, "onexecute")
		if got.State != c.state || got.Exit != c.exit || p.Target.Happened(c.event) != before+1 || len(got.Output) > 66<<10 {
			p.T.Errorf("%s: state %s, exit %d, %d bytes: %s", c.program.Path, got.State, got.Exit, len(got.Output), got.Err)
		}
	}
}

// refused: what no machine would run, and what the switch of each says.
func (p *pair) refused() {
	p.T.Helper()
	note := p.script("ran", "touch "+p.file("ran-$UNDERSTUDY_POINT"))
	for what, req := range map[string]control.TaskRequest{
		"nothing to run": {Job: "x"}, "a relative path": {Job: "x", OnQueue: &control.TaskProgram{Path: "bin/true"}},
		"another target": {Job: "x", Target: "oslo", OnQueue: note}, "another set": {Job: "x", Set: "other", OnQueue: note},
		"a job of two lines": {Job: "a\nb", OnQueue: note}, "a negative time": {Job: "x", TimeoutMS: -5, OnQueue: note},
	} {
		if req.Target == "" {
			req.Target = "jersey"
		}
		if err := p.Source.Try("task", req, nil); err == nil {
			p.T.Errorf("%s: accepted", what)
		}
	}
	p.Source.Ask("setting.set", control.SettingRequest{Name: "EnableTaskCmdProcessing", Value: "0"}, nil)
	if err := p.Source.Try("task", control.TaskRequest{Job: "x", Target: "jersey", OnQueue: note}, nil); err == nil {
		p.T.Error("accepted where the only machine it concerns is switched off")
	}
	task := p.queue(control.TaskRequest{Job: "local", TimeoutMS: 60_000, OnTransmit: note, OnExecute: note}) // B8.28
	p.Settle()
	if !exists(p.file("ran-onexecute")) || exists(p.file("ran-ontransmit")) || pointOf(p.Source, task, "ontransmit").State != "ignored" || p.Source.Happened(4207) != 1 {
		p.T.Error("the switch is not each machine's own")
	}
	p.Source.Ask("setting.set", control.SettingRequest{Name: "EnableTaskCmdProcessing", Value: "1"}, nil)
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
		p.Write(fmt.Sprint("w", i), "x")
		p.queue(control.TaskRequest{Job: "quick", TimeoutMS: 60_000, OnExecute: arg(quick, i)})
		want = append(want, fmt.Sprint(i))
	}
	p.Target.Kill()
	p.Target.Start()
	p.Settle()
	if got := pointOf(p.Target, hung, "onexecute"); got.State != "interrupted" || len(p.lines("slow-ran")) != 1 || p.Target.Happened(4204) != 1 {
		t.Errorf("the interrupted program: %+v, started %d times, told %d times", got, len(p.lines("slow-ran")), p.Target.Happened(4204))
	}
	waitFor(t, "end of what it left", func() bool { return ended(p.lines("left")[0]) })
	for i := range 10 {
		p.Write(fmt.Sprint("v", i), "x")
		p.queue(control.TaskRequest{Job: "quick", TimeoutMS: 60_000, OnExecute: arg(quick, 100+i)})
		want = append(want, fmt.Sprint(100+i))
		if i%4 == 1 {
			time.Sleep(time.Duration(i) * 7 * time.Millisecond) // another moment each time
			p.Target.Kill()
			p.Target.Start()
		}
	}
	p.Settle()
	told := p.Target.Happened(4204) - 1 // kills in the midst of one
	if got := p.lines("ran"); !slices.Equal(got, want) && (told == 0 || len(got)+told < len(want) || !slices.IsSorted(trim(got)) || len(slices.Compact(slices.Clone(got))) != len(got)) {
		t.Errorf("ran %q, want %q; %d interrupted", got, want, told)
	}
	same(t, p.Dir, p.Replica)
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
	p.Source.Ask("transmission", control.TransmissionRequest{ID: p.Con, Action: "pause"}, nil)
	task := p.queue(control.TaskRequest{Job: "lost", TimeoutMS: 60_000, OnQueue: p.script("queued", "touch "+p.file("queued")), OnTransmit: note, OnExecute: note})
	if got := endOf(p.Source, task, "onqueue"); got.State != "succeeded" || !exists(p.file("queued")) {
		t.Fatalf("onqueue waits for the transmission: %+v", got)
	}
	p.Source.Ask("disconnect", control.IDRequest{ID: p.Con}, nil)
	if p.Source.Happened(4201) != 1 || exists(p.file("ran")) {
		t.Error("it was not given up")
	}
}
