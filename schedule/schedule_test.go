package schedule

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var t0 = time.Date(2026, 3, 31, 21, 0, 0, 0, time.UTC)

// day runs s second by second from from, with arrivals a second and a line that takes
// rate bytes a second, and returns at which seconds it was open.
func day(s *Schedule, from time.Time, seconds int, arrive, rate int64) []bool {
	var ses Session
	var q Queue
	var out []bool
	for i := range seconds {
		q.Bytes += arrive
		ses = s.Next(ses, from.Add(time.Duration(i)*time.Second), q)
		if ses.Open {
			n := min(rate, q.Bytes)
			q.Bytes -= n
			q.Sent += uint64(n)
		}
		out = append(out, ses.Open)
	}
	return out
}

func count(v []bool, from, to int) (n int) {
	for _, open := range v[from:to] {
		if open {
			n++
		}
	}
	return n
}

// B10.13: start at 22:00, every 30 minutes.
func TestIntervalBeginsAgainWithWhatCameMeanwhile(t *testing.T) {
	s := &Schedule{Start: Start{At: t0.Add(time.Hour), Every: Every{Time: 30 * time.Minute}}}
	v := day(s, t0, 3*3600, 1, 3) // an hour's 3600 bytes go in 1800 s of a line three times as fast as what comes
	if n := count(v, 0, 3600); n != 0 {
		t.Errorf("open for %d s before the session start", n)
	}
	if !v[3600] || !v[3600+1790] {
		t.Error("session did not run from its start until the queue was empty")
	}
	second := 3600 + 1800
	if !v[second+1] {
		t.Error("no second session half an hour later")
	}
}

// B10.23: the line opens when 10 MB wait and closes when 10 MB are sent.
func TestThresholdWithByteLimit(t *testing.T) {
	s := &Schedule{Start: Start{Bytes: 10_000_000}, Stop: Stop{Bytes: 10_000_000}}
	v := day(s, t0, 100, 500_000, 2_000_000) // 10 MB wait after 20 s
	if v[18] || !v[19] {
		t.Errorf("open at 18 s: %v, at 19 s: %v; want false, true", v[18], v[19])
	}
	if n := count(v, 19, 30); n != 5 {
		t.Errorf("session of %d s, want 5: 10 MB at 2 MB/s", n)
	}
}

// B10.31: a window 21:00 to 04:00 and a start at 05:00: nothing is sent.
func TestWindowBeatsEveryCriterion(t *testing.T) {
	five := time.Date(2026, 4, 1, 5, 0, 0, 0, time.UTC)
	s := &Schedule{Start: Start{At: five, Every: Every{Days: 1}}, Window: Window{Set: true, Open: 21 * 60, Close: 4 * 60}}
	if n := count(day(s, t0, 2*86400, 1, 10), 0, 2*86400); n != 0 {
		t.Errorf("open for %d s", n)
	}
	if got := s.StartNow(Session{}, five, Queue{Bytes: 1}); got.Open {
		t.Error("a start by hand beat the window (B10.48)")
	}
}

// B10.34: when the window closes, a running session is stopped. B10.33: it starts none.
func TestWindow(t *testing.T) {
	s := &Schedule{Window: Window{Set: true, Open: 22 * 60, Close: 1 * 60}}
	if !s.Silent() {
		t.Error("a window alone is not reported as silent")
	}
	if n := count(day(s, t0, 86400, 1, 10), 0, 86400); n != 0 {
		t.Errorf("a window alone opened for %d s (B10.33)", n)
	}
	s.Start.At = t0.Add(2 * time.Hour) // 23:00
	v := day(s, t0, 86400, 100, 1)     // never empty
	if !v[2*3600] || !v[4*3600-1] || v[4*3600] || count(v, 4*3600, 86400) != 0 {
		t.Error("session does not run from 23:00 until the window closes at 01:00")
	}
}

// B10.48: a start by hand lasts until the queue is empty.
func TestStartByHand(t *testing.T) {
	s := &Schedule{Start: Start{At: t0.Add(24 * time.Hour)}}
	ses := s.Next(Session{}, t0, Queue{Bytes: 5})
	if ses.Open || ses.Reason != WaitsToOpen {
		t.Fatalf("before: %+v", ses)
	}
	ses = s.StartNow(ses, t0.Add(time.Second), Queue{Bytes: 5})
	if !ses.Open || !ses.Manual {
		t.Fatalf("started: %+v", ses)
	}
	ses = s.Next(ses, t0.Add(2*time.Second), Queue{Bytes: 1, Sent: 4})
	if !ses.Open {
		t.Fatalf("ended before the queue was empty: %v", ses.Reason)
	}
	ses = s.Next(ses, t0.Add(3*time.Second), Queue{Sent: 5})
	if ses.Open || ses.Manual || ses.Reason != QueueEmpty {
		t.Fatalf("after: %+v", ses)
	}
}

// B10.6: a disabled schedule holds nothing back and comes back as it was.
func TestDisable(t *testing.T) {
	s := &Schedule{Start: Start{Bytes: 100}}
	ses := s.Next(Session{}, t0, Queue{Bytes: 1})
	s.Disabled = true
	if ses = s.Next(ses, t0.Add(time.Second), Queue{Bytes: 1}); !ses.Open {
		t.Error("closed though disabled")
	}
	s.Disabled = false
	if ses = s.Next(ses, t0.Add(2*time.Second), Queue{Bytes: 1}); ses.Open {
		t.Error("open after it was enabled again")
	}
}

func TestClockSetBackStartsNothingAgain(t *testing.T) {
	s := &Schedule{Start: Start{At: t0}}
	ses := s.Next(Session{}, t0, Queue{Bytes: 1})
	ses = s.Next(ses, t0.Add(time.Second), Queue{}) // empty: over
	ses = s.Next(ses, t0.Add(-time.Hour), Queue{Bytes: 1})
	if ses.Open {
		t.Error("a clock set back began a session")
	}
}

// Days are those of the calendar: the night clocks are put forward has 23 hours.
func TestDaysKeepTheHour(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	c := Start{At: time.Date(2026, 3, 1, 22, 0, 0, 0, berlin), Every: Every{Days: 1}}
	at := c.At
	for range 400 {
		at = c.nextAfter(at)
		if at.Hour() != 22 || at.Minute() != 0 {
			t.Fatalf("start at %v", at)
		}
	}
	if want := c.At.AddDate(0, 0, 400); !at.Equal(want) {
		t.Errorf("after 400 starts: %v, want %v", at, want)
	}
}

func TestCheck(t *testing.T) {
	for name, s := range map[string]Schedule{
		"interval without start": {Start: Start{Every: Every{Days: 1}}},
		"both intervals":         {Start: Start{At: t0, Every: Every{Days: 1, Time: time.Hour}}},
		"percent":                {Start: Start{Percent: 101}},
		"negative bytes":         {Stop: Stop{Bytes: -1}},
		"window":                 {Window: Window{Set: true, Open: 1440}},
		"short interval":         {Start: Start{At: t0, Every: Every{Time: time.Millisecond}}},
	} {
		if s.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := (&Schedule{}).Check(); err != nil {
		t.Error(err)
	}
}

// slow is the obvious model: every second of time has a list of all session starts
// before it.
type slow struct {
	s       *Schedule
	open    bool
	began   int
	sent    int64
	session int64
	bytes   int64
}

func (m *slow) step(i int, from time.Time, arrive, rate int64) bool {
	now := from.Add(time.Duration(i) * time.Second)
	m.bytes += arrive
	s := m.s
	start := false
	for k := 0; !s.Start.At.IsZero(); k++ {
		at := s.Start.At.AddDate(0, 0, k*s.Start.Every.Days).Add(time.Duration(k) * s.Start.Every.Time)
		if at.After(now) {
			break
		}
		start = start || at.After(now.Add(-time.Second))
		if s.Start.Every == (Every{}) {
			break
		}
	}
	minute := now.Hour()*60 + now.Minute()
	inside := !s.Window.Set || s.Window.Open == s.Window.Close
	for k := s.Window.Open; s.Window.Set && k%minutesOfDay != s.Window.Close; k++ {
		inside = inside || k%minutesOfDay == minute
	}
	limited := !s.Start.At.IsZero() || s.Start.Bytes > 0 || s.Window.Set
	switch {
	case !limited:
		m.open = true
	case !inside:
		m.open = false
	case m.open:
		over := m.bytes == 0 ||
			s.Stop.After > 0 && time.Duration(i-m.began)*time.Second >= s.Stop.After ||
			s.Stop.Bytes > 0 && m.sent-m.session >= s.Stop.Bytes
		m.open = !over
	case start || s.Start.Bytes > 0 && m.bytes >= s.Start.Bytes:
		m.open, m.began, m.session = true, i, m.sent
	}
	if m.open {
		n := min(rate, m.bytes)
		m.bytes -= n
		m.sent += n
	}
	return m.open
}

// TestScheduleEqualsTheObviousModel: random schedules, second by second.
func TestScheduleEqualsTheObviousModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &Schedule{}
		if rapid.Bool().Draw(t, "start") {
			s.Start.At = t0.Add(time.Duration(rapid.IntRange(-7200, 7200).Draw(t, "at")) * time.Second)
			switch rapid.IntRange(0, 2).Draw(t, "every") {
			case 1:
				s.Start.Every.Time = time.Duration(rapid.IntRange(1, 5000).Draw(t, "seconds")) * time.Second
			case 2:
				s.Start.Every.Days = rapid.IntRange(1, 3).Draw(t, "days")
			}
		}
		s.Start.Bytes = int64(rapid.IntRange(0, 2000).Draw(t, "queue") * rapid.IntRange(0, 1).Draw(t, "by queue"))
		s.Stop.After = time.Duration(rapid.IntRange(0, 900).Draw(t, "after")*rapid.IntRange(0, 1).Draw(t, "by time")) * time.Second
		s.Stop.Bytes = int64(rapid.IntRange(0, 3000).Draw(t, "bytes") * rapid.IntRange(0, 1).Draw(t, "by bytes"))
		if rapid.Bool().Draw(t, "window") {
			s.Window = Window{true, rapid.IntRange(0, 1439).Draw(t, "open"), rapid.IntRange(0, 1439).Draw(t, "close")}
		}
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		arrive, rate := int64(rapid.IntRange(0, 3).Draw(t, "arrive")), int64(rapid.IntRange(1, 9).Draw(t, "rate"))
		seconds := 5400
		got := day(s, t0, seconds, arrive, rate)
		m := &slow{s: s}
		for i := range seconds {
			if want := m.step(i, t0, arrive, rate); got[i] != want {
				t.Fatalf("%s: open is %v, the model says %v\n%+v", t0.Add(time.Duration(i)*time.Second).Format("15:04:05"), got[i], want, *s)
			}
		}
	})
}

func ExampleSchedule_Next() {
	s := &Schedule{Start: Start{Bytes: 500 << 20}} // B10.15
	ses := s.Next(Session{}, t0, Queue{Bytes: 100 << 20})
	fmt.Println(ses.Open, ses.Reason)
	ses = s.Next(ses, t0.Add(time.Second), Queue{Bytes: 501 << 20})
	fmt.Println(ses.Open, ses.Reason)
	// Output:
	// false waits for a start criterion
	// true queue threshold in bytes
}
