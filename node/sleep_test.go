package node

import (
	"fmt"
	"testing"
	"time"

	"understudy/control"
)

// sleepWithin is how soon after a fault the pair is converged and idle.
const sleepWithin = 60 * time.Second

// level is what a daemon holds. Descriptors of files in the trees are a bounded cache and
// do not count.
type level struct {
	goroutines, descriptors int
	memory                  int64 // bytes resident
}

func (l level) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d MiB", l.goroutines, l.descriptors, l.memory>>20)
}

// Slack of a level: connections that linger until the peer's ping ends them, and what a
// garbage collector keeps.
const (
	slackCount  = 5
	slackMemory = 64 << 20
)

func (l level) within(before level) bool {
	return l.goroutines <= before.goroutines+slackCount && l.descriptors <= before.descriptors+slackCount && l.memory <= before.memory+slackMemory
}

func (m *machine) level() level {
	m.t.Helper()
	return level{m.d.Goroutines(), m.d.Descriptors(m.cfg.Data), m.d.Memory()}
}

// levels are those of source and target when the pair is settled.
func (r *rig) levels() [2]level {
	r.t.Helper()
	r.settled("before the levels")
	return [2]level{r.source.level(), r.target.level()}
}

// asleep fails the test unless the pair is converged and idle within 60 s, no alert holds,
// and both daemons are back at the level they had before. Deferred behind the begin of a
// test, with the levels of that moment, it looks at its end unless it failed already.
func (r *rig) asleep(before [2]level) {
	r.t.Helper()
	if r.t.Failed() {
		return
	}
	began := time.Now()
	r.source.closeControl() // those from before a restart of the messaging server are of no use
	r.target.closeControl()
	r.settled("before sleep")
	for i, m := range []*machine{r.source, r.target} {
		var now level
		var st control.Status
		ok := within(sleepWithin-time.Since(began), func() bool {
			now, st = m.level(), control.Status{}                   // decoding leaves what an answer leaves out
			if err := m.ask("status", nothing{}, &st); err != nil { // its messaging server restarts
				m.closeControl()
				return false
			}
			return now.within(before[i]) && len(st.Alerts) == 0
		})
		if !ok {
			m.d.Stacks()
			r.t.Errorf("%s does not sleep after %v: %v, before %v; alerts %+v", m.cfg.Name, time.Since(began).Round(time.Millisecond), now, before[i],
				st.Alerts)
		}
	}
	if took := time.Since(began); took > sleepWithin {
		r.t.Errorf("converged only after %v", took)
	}
}

// within reports whether ok comes true in time. It asks seldom: answers are work, too.
func within(limit time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(500 * time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// BenchmarkIdle measures the processor time of a pair that has nothing to do, in
// milliseconds a second.
func BenchmarkIdle(b *testing.B) {
	r := protectedRig(b)
	r.settled("before")
	var source, target, total time.Duration
	for b.Loop() {
		s, t, began := r.source.d.CPU(), r.target.d.CPU(), time.Now()
		time.Sleep(5 * time.Second) // what is measured is the use in a time
		source, target, total = source+r.source.d.CPU()-s, target+r.target.d.CPU()-t, total+time.Since(began)
	}
	b.ReportMetric(float64(source.Milliseconds())/total.Seconds(), "source-ms/s")
	b.ReportMetric(float64(target.Milliseconds())/total.Seconds(), "target-ms/s")
	b.ReportMetric(0, "ns/op")
}
