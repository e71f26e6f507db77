package node

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"understudy/event"
	"understudy/mirror"
	"understudy/schedule"
	"understudy/stream"
)

// limits is what holds back the sending to one target, over all connections to it: a
// schedule and a bandwidth (B10.4, B10.44). Methods may be called by several goroutines.
type limits struct {
	n      *Node
	target string
	valve  *stream.Valve // closed while the schedule lets nothing pass

	mu      sync.Mutex // guards what follows
	set     storedLimits
	session schedule.Session
}

// storedLimits are remembered over a restart (B10.8).
type storedLimits struct {
	Schedule schedule.Schedule `json:"schedule"`
	Bytes    int64             `json:"bytes,omitempty"` // in each period; 0: no limit
	Period   time.Duration     `json:"period,omitempty"`
}

func (l *storedLimits) empty() bool {
	return l.Schedule == schedule.Schedule{} && l.Bytes == 0
}

// limitTable has the limits of every target that was asked for.
type limitTable struct {
	mu       sync.Mutex // guards what follows
	byTarget map[string]*limits
	clock    func() time.Time // nil: the machine's
}

// examineEvery is how often schedules and queues are looked at (B10.5).
const examineEvery = time.Second

// now is the time schedules go by.
func (n *Node) now() time.Time {
	n.limits.mu.Lock()
	defer n.limits.mu.Unlock()
	if n.limits.clock != nil {
		return n.limits.clock()
	}
	return time.Now()
}

// limitsOf are the limits of a target, made when they are first asked for: at most one
// for each machine that was connected to or given a schedule.
func (n *Node) limitsOf(target string) *limits {
	now := n.now()
	n.limits.mu.Lock()
	defer n.limits.mu.Unlock()
	if l := n.limits.byTarget[target]; l != nil {
		return l
	}
	l := &limits{n: n, target: target, valve: new(stream.Valve)}
	n.state.read(func(d *stateData) { l.set = d.Limits[target] })
	l.valve.SetLimit(l.set.Bytes, l.set.Period)
	l.session = l.set.Schedule.Next(schedule.Session{}, now, schedule.Queue{})
	l.obey()
	if n.limits.byTarget == nil {
		n.limits.byTarget = map[string]*limits{}
	}
	n.limits.byTarget[target] = l
	return l
}

// obey opens or closes the valve as the session says. l.mu is held, or l is new.
func (l *limits) obey() {
	if l.session.Open {
		l.valve.Resume()
	} else {
		l.valve.Pause()
	}
}

// open reports whether the schedule lets anything pass now.
func (l *limits) open() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session.Open
}

// examine looks at the criteria as of now.
func (l *limits) examine(now time.Time) {
	q := l.queue()
	l.mu.Lock()
	was := l.session
	l.session = l.set.Schedule.Next(was, now, q)
	is, scheduled := l.session, l.set.Schedule.Limits()
	l.obey()
	l.mu.Unlock()
	l.changed(was, is, scheduled)
}

// changed tells what an examination changed.
func (l *limits) changed(was, is schedule.Session, scheduled bool) {
	if was.Open == is.Open {
		return
	}
	about := event.About{Target: l.target}
	switch {
	case is.Open && scheduled:
		l.n.events.Raise(event.ScheduledStart, about, l.target, is.Reason)
	case !is.Open:
		l.n.events.Raise(event.ScheduledStop, about, l.target, is.Reason)
	}
	for _, c := range l.n.connectionsTo(l.target) {
		c.signal()
	}
}

// queue is what the criteria look at. A mirror that is under way counts as a full queue:
// nobody knows how much it is, and what comes after it is of no use before it.
func (l *limits) queue() schedule.Queue {
	q := schedule.Queue{Sent: l.valve.Passed()}
	for _, c := range l.n.connectionsTo(l.target) {
		s := c.current()
		if s == nil || c.transmission() != sending {
			continue
		}
		u := s.usage()
		q.Percent = max(q.Percent, u.percent)
		if u.transmitted && u.mirrorBytes == 0 && s.mirrorIdle() {
			continue
		}
		q.Bytes += max(u.bytes+u.mirrorBytes, 1)
		if !s.mirrorIdle() && s.mirror.Progress().State != mirror.Paused {
			q.Bytes, q.Percent = math.MaxInt64/2, 100
			break
		}
	}
	return q
}

// connectionsTo are the connections to a target.
func (n *Node) connectionsTo(target string) (out []*Connection) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		if c.cfg.Target == target {
			out = append(out, c)
		}
	}
	return out
}

// startNow is a start by hand (B10.48). false: the window is closed.
func (l *limits) startNow(now time.Time) bool {
	q := l.queue()
	l.mu.Lock()
	was := l.session
	l.session = l.set.Schedule.StartNow(was, now, q)
	is := l.session
	l.obey()
	l.mu.Unlock()
	l.changed(was, is, true)
	return is.Open
}

// change replaces what is set, on disk first, and puts it into effect.
func (l *limits) change(f func(*storedLimits) error) error {
	l.mu.Lock()
	set := l.set
	if err := f(&set); err != nil {
		l.mu.Unlock()
		return err
	}
	err := l.n.state.update(func(d *stateData) {
		if d.Limits == nil {
			d.Limits = map[string]storedLimits{}
		}
		if d.Limits[l.target] = set; set.empty() {
			delete(d.Limits, l.target)
		}
	})
	if err != nil {
		l.mu.Unlock()
		return err
	}
	if set.Bytes != l.set.Bytes || set.Period != l.set.Period {
		l.valve.SetLimit(set.Bytes, set.Period)
	}
	l.set = set
	l.mu.Unlock()
	l.examine(l.n.now())
	return nil
}

// examineAll looks at every schedule and every queue.
func (n *Node) examineAll(ctx context.Context) {
	now := n.now()
	n.limits.mu.Lock()
	list := make([]*limits, 0, len(n.limits.byTarget))
	for _, l := range n.limits.byTarget {
		list = append(list, l)
	}
	n.limits.mu.Unlock()
	for _, l := range list {
		l.examine(now)
	}
	n.examineQueues(ctx)
	n.examineVerifications(now)
}

// watchLimits examines schedules and queues until ctx ends.
func (n *Node) watchLimits(ctx context.Context) {
	atEach(ctx, examineEvery, func() { n.examineAll(ctx) })
}

// limitedTargets are the targets that have limits, by name.
func (n *Node) limitedTargets() (out []string) {
	n.state.read(func(d *stateData) {
		for target := range d.Limits {
			out = append(out, target)
		}
	})
	slices.Sort(out)
	return out
}
