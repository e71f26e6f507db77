package schedule

import "time"

// Queue is what the criteria look at, over all connections to the target.
type Queue struct {
	Bytes   int64  // in memory and on disk
	Percent int    // of what memory and disk may hold
	Sent    uint64 // bytes sent since the node started; never falls
}

// Session is where a schedule stands. The zero value is before the first question. It
// need not be kept over a restart: a session start that passed while the node was down
// is not made up for.
type Session struct {
	Open   bool      // transmission is allowed
	Manual bool      // begun by hand
	Reason Reason    // of the last change
	began  time.Time // when it was opened
	sent   uint64    // Queue.Sent then
	seen   time.Time // session starts up to here are dealt with
}

// Reason is why a session began or ended.
type Reason uint8

// The reasons, in the order in which they are looked for.
const (
	NoReason    Reason = iota
	Always             // there is nothing that limits
	WindowShut         // outside the window
	ByHand             // manual start
	StartTime          // session start or its repetition
	QueuePart          // queue threshold in percent
	QueueSize          // queue threshold in bytes
	QueueEmpty         // all is sent
	TimeLimit          // the session was long enough
	ByteLimit          // enough was sent
	EndTime            // the end date came
	WaitsToOpen        // no criterion was met yet
)

var reasonTexts = [...]string{"", "no limit", "outside the window", "started by hand", "session start", "queue threshold in percent",
	"queue threshold in bytes", "queue empty", "time limit", "byte limit", "end time", "waits for a start criterion"}

func (r Reason) String() string { return reasonTexts[r] }

// Next is the session after a look at now. Asked once a second it opens and closes
// within a second of a criterion; asked less often it misses no session start, but
// several since the last question count as one.
func (s *Schedule) Next(was Session, now time.Time, q Queue) Session {
	is := was
	is.seen = now
	due := s.due(was, now)
	if !s.Limits() {
		return is.become(true, Always, now, q)
	}
	if !s.Window.contains(now) {
		is.Manual = false
		return is.become(false, WindowShut, now, q)
	}
	if was.Open && was.Reason != Always {
		if r := s.ends(was, now, q); r != NoReason {
			is.Manual = false
			return is.become(false, r, now, q)
		}
		return is
	}
	switch c := s.Start; {
	case due:
		return is.become(true, StartTime, now, q)
	case c.Percent > 0 && q.Percent >= c.Percent:
		return is.become(true, QueuePart, now, q)
	case c.Bytes > 0 && q.Bytes >= c.Bytes:
		return is.become(true, QueueSize, now, q)
	case was.Open || was.Reason == NoReason || was.Reason == WindowShut:
		return is.become(false, WaitsToOpen, now, q)
	}
	return is
}

// StartNow is a start by hand: it beats the start criteria, not the window (B10.48).
func (s *Schedule) StartNow(was Session, now time.Time, q Queue) Session {
	if !s.Limits() || !s.Window.contains(now) || was.Open && was.Reason != Always {
		return s.Next(was, now, q)
	}
	is := was
	is.seen, is.Manual = now, true
	return is.become(true, ByHand, now, q)
}

// due reports whether a session start lies between the last question and now. A clock
// that was set back brings none again.
func (s *Schedule) due(was Session, now time.Time) bool {
	from := was.seen
	if from.IsZero() {
		from = now.Add(-time.Second)
	}
	at := s.Start.nextAfter(from)
	return !at.IsZero() && !at.After(now)
}

// ends says which criterion ends a session, if any does.
func (s *Schedule) ends(was Session, now time.Time, q Queue) Reason {
	c := s.Stop
	switch {
	case q.Bytes == 0:
		return QueueEmpty
	case c.After > 0 && now.Sub(was.began) >= c.After:
		return TimeLimit
	case c.Bytes > 0 && q.Sent-was.sent >= uint64(c.Bytes):
		return ByteLimit
	case !c.At.IsZero() && !now.Before(c.At) && was.began.Before(c.At):
		return EndTime
	}
	return NoReason
}

// become opens or closes.
func (is Session) become(open bool, why Reason, now time.Time, q Queue) Session {
	if open && (!is.Open || is.Reason == Always) {
		is.began, is.sent = now, q.Sent
	}
	is.Open, is.Reason = open, why
	return is
}
