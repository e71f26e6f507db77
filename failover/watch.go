package failover

import "time"

// requestsPerInterval is how many requests are sent in one interval. One lost packet then
// is not a missed interval: of 20 requests in a time to fail of 4 intervals, with 30 % of
// the packets lost both ways, all are lost once in 700 000 times.
const requestsPerInterval = 5

// Light is the colour of a watched address or machine (F55).
type Light string

// The lights.
const (
	Online  Light = "online"  // green
	Caution Light = "caution" // yellow: a quarter of the time to fail passed without an answer
	Failed  Light = "failed"  // red
)

// Countdown is the time to fail of one address. It is a plain value: the caller says what
// time it is, on a clock that is never set.
type Countdown struct {
	Timeout time.Duration // interval times missed
	Pace    time.Duration // between requests

	silent time.Duration // without an answer to requests that were sent and listened for
	blind  time.Duration // in which no request could be sent
	vain   time.Duration // without a first answer, when that is awaited
	last   time.Duration // when Step was called last
	begun  bool
}

// Request is what became of the one before a step.
type Request int

// What can become of it.
const (
	Unsent  Request = iota // none was due
	Sent                   // it is on its way, or nobody is there to take it
	Awaited                // the same, but the countdown begins with the first answer
	Unable                 // this machine could not send it: it knows nothing of the source
)

// NewCountdown begins a full one.
func NewCountdown(a Address) Countdown {
	return Countdown{Timeout: a.Timeout(), Pace: a.Interval() / requestsPerInterval}
}

// Step goes on to now. before says what became of the request of the step before, answered
// that an answer came since. Silence counts at most one pace for each request, however late
// the step comes: whoever did not ask cannot have missed an answer.
func (c *Countdown) Step(now time.Duration, before Request, answered bool) {
	passed := max(min(now-c.last, c.Pace), 0)
	c.last = now
	switch {
	case answered:
		c.silent, c.blind, c.vain = 0, 0, 0
	case c.begun && before == Sent:
		c.silent, c.blind = c.silent+passed, 0
	case c.begun && before == Awaited:
		c.vain, c.blind = min(c.vain+passed, c.Timeout), 0
	case c.begun && before == Unable:
		c.blind = min(c.blind+passed, c.Timeout)
	}
	c.begun = true
}

// Blind reports whether nothing could be asked for the whole time to fail.
func (c *Countdown) Blind() bool { return c.blind >= c.Timeout }

// Stale reports whether half of the time to fail passed in silence.
func (c *Countdown) Stale() bool { return c.silent >= c.Timeout/2 }

// Left is the time to fail.
func (c *Countdown) Left() time.Duration { return max(c.Timeout-c.silent, 0) }

// Back sets the countdown to where caution begins, if it is beyond that.
func (c *Countdown) Back() { c.silent = min(c.silent, c.Timeout/4) }

// Light of the address.
func (c *Countdown) Light() Light {
	switch {
	case c.silent >= c.Timeout:
		return Failed
	case c.silent+c.blind+c.vain >= c.Timeout/4: // F55: 25 % of the whole timeout
		return Caution
	}
	return Online
}

// Decide is the light of the machine, by those of its watched addresses (F10). With none
// it is online: nothing is known.
func Decide(trigger string, lights []Light) Light {
	worst, best := Online, Failed
	for _, l := range lights {
		worst, best = max2(worst, l), min2(best, l)
	}
	switch {
	case len(lights) == 0:
		return Online
	case trigger == TriggerAny:
		return worst
	case best != Failed && worst != Online:
		return Caution // something is silent, the machine is not
	}
	return best
}

var severity = map[Light]int{Online: 0, Caution: 1, Failed: 2}

func max2(a, b Light) Light {
	if severity[b] > severity[a] {
		return b
	}
	return a
}

func min2(a, b Light) Light {
	if severity[b] < severity[a] {
		return b
	}
	return a
}
