package node

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"understudy/control"
	"understudy/internal/statfile"
)

// The statistics file: a snapshot each second while something moves, written to disk
// every StatsWriteInterval minutes (0: at once) and when logging ends. A kill of the
// daemon costs what was not written yet.

const (
	statsEvery   = time.Second
	maxUnwritten = 1 << 20 // bytes of snapshots in memory; then they are written at once
	statsEnd     = ".sts"  // statistic.sts of the last time is statistic-old.sts
)

// statsLogger writes the statistics file while it runs.
type statsLogger struct {
	n    *Node
	name string // of the file; "": StatsFileName

	turning sync.Mutex // one start or stop at a time
	mu      sync.Mutex // guards what follows
	stop    context.CancelFunc
	done    chan struct{} // closed when it has ended; nil: it never ran
	file    string
}

// path is where statistics are logged to.
func (l *statsLogger) path() string {
	conf := l.n.conf()
	if l.name != "" {
		return filepath.Join(conf.statsDir(), l.name)
	}
	return filepath.Join(conf.statsDir(), conf.StatsFile)
}

// statsDir is the directory of logs.
func (c *Config) statsDir() string {
	if c.LogDir == "" {
		return c.Data
	}
	return c.LogDir
}

// turn starts or stops logging; what is so already stays.
func (l *statsLogger) turn(on bool) error {
	l.turning.Lock()
	defer l.turning.Unlock()
	l.mu.Lock()
	stop, done := l.stop, l.done
	l.mu.Unlock()
	if on == (stop != nil) {
		return nil
	}
	if !on {
		stop()
		<-done
		return nil
	}
	conf := l.n.conf()
	file, old := l.path(), ""
	if conf.StatsKeepOld {
		old = strings.TrimSuffix(file, statsEnd) + "-old" + statsEnd
	}
	if err := statfile.SetAside(file, old); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(l.n.ctx)
	l.mu.Lock()
	l.stop, l.done, l.file = cancel, make(chan struct{}), file
	l.mu.Unlock()
	l.n.wait.Go(func() { l.run(ctx) })
	return nil
}

func (l *statsLogger) state() control.Statslog {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop == nil {
		return control.Statslog{File: l.path()}
	}
	return control.Statslog{Running: true, File: l.file}
}

// run logs until ctx ends.
func (l *statsLogger) run(ctx context.Context) {
	tick := time.NewTicker(statsEvery)
	defer tick.Stop()
	var last activity
	b := statsBatch{log: l}
	for ctx.Err() == nil {
		st := l.n.stats()
		if now := activityOf(&st); now != last || now.busy {
			b.add(&st)
			last = now
		}
		b.write(false)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	st := l.n.stats() // how it ended
	b.add(&st)
	b.write(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop = nil
	close(l.done)
}

// activity is what of a snapshot shows that something moves.
type activity struct {
	busy                    bool
	rep, tx, received, kept uint64
}

func activityOf(st *control.Stats) activity {
	a := activity{rep: st.Kernel.RepOps}
	for i := range st.Connections {
		c := &st.Connections[i]
		a.tx += c.OpsTx
		a.kept += c.TasksSubmitted
		a.busy = a.busy || c.OpsInRepQueue+c.OpsInMirQueue+c.OpsInCmdQueue > 0
	}
	for i := range st.Targets {
		a.received += st.Targets[i].OpsReceived
		a.busy = a.busy || st.Targets[i].OpsRemaining > 0
	}
	return a
}

// statsBatch is what is not written yet.
type statsBatch struct {
	log     *statsLogger
	records [][]byte
	bytes   int
	written time.Time
	said    bool
}

func (b *statsBatch) add(st *control.Stats) {
	raw, err := json.Marshal(st)
	if err != nil { // numbers and texts only
		return
	}
	b.records, b.bytes = append(b.records, raw), b.bytes+len(raw)
}

// write writes what is due. What a full disk refuses is kept, and the oldest of it goes
// when it is too much.
func (b *statsBatch) write(all bool) {
	conf := b.log.n.conf()
	if len(b.records) == 0 || !all && b.bytes < maxUnwritten && time.Since(b.written) < conf.StatsInterval {
		return
	}
	err := statfile.Append(b.log.state().File, b.records, conf.StatsMax)
	if err == nil {
		b.records, b.bytes, b.said, b.written = nil, 0, false, time.Now()
		return
	}
	if !b.said {
		b.log.n.log.Warn("statistics not written", "err", err)
		b.said = true
	}
	for b.bytes >= maxUnwritten {
		b.bytes -= len(b.records[0])
		b.records = slices.Delete(b.records, 0, 1)
	}
}

func (n *Node) statslog(_ context.Context, r control.StatslogRequest) (any, error) {
	switch r.Action {
	case "start", "stop":
		if err := n.statsLog.turn(r.Action == "start"); err != nil {
			return nil, control.Errorf(control.Refused, "see LogDir and StatsFileName", "%v", err)
		}
	default:
		return nil, control.Errorf(control.BadRequest, "start or stop", "statistics log action %q", r.Action)
	}
	return n.statsLog.state(), nil
}

func (n *Node) statslogStatus(context.Context, nothing) (any, error) { return n.statsLog.state(), nil }

// logStatsFromStart obeys StatsLoggingOn.
func (n *Node) logStatsFromStart() {
	if !n.conf().StatsLogging {
		return
	}
	if err := n.statsLog.turn(true); err != nil {
		n.log.Error("statistics are not logged", "err", err)
	}
}
