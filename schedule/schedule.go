package schedule

import (
	"errors"
	"fmt"
	"time"
)

// Schedule of one target address. The zero value lets everything pass at all times.
type Schedule struct {
	Disabled bool   `json:"disabled,omitempty"` // nothing of it counts, all of it is kept (B10.6)
	Start    Start  `json:"start"`
	Stop     Stop   `json:"stop"`
	Window   Window `json:"window"`
}

// Start are the criteria that begin a session; the first one met does (B10.11).
type Start struct {
	At      time.Time `json:"at,omitzero"`       // session start; zero: none
	Every   Every     `json:"every"`             // repeats At; zero: At happens once
	Percent int       `json:"percent,omitempty"` // of the queue's memory and disk in use; 0: none
	Bytes   int64     `json:"bytes,omitempty"`   // in the queue; 0: none
}

// Every is the distance of session starts. Days and weeks are those of the calendar:
// 22:00 stays 22:00 when clocks change.
type Every struct {
	Days int           `json:"days,omitempty"`
	Time time.Duration `json:"time,omitempty"` // in nanoseconds
}

// Stop are the criteria that end a session; an empty queue does in any case (B10.20).
type Stop struct {
	After time.Duration `json:"after,omitempty"` // length of a session, in nanoseconds
	Bytes int64         `json:"bytes,omitempty"` // sent in a session
	At    time.Time     `json:"at,omitzero"`
}

// Window is the time of day in which anything may be sent at all. Open and Close are
// minutes after midnight; a window that closes before it opens spans midnight (B10.32),
// one that closes when it opens is the whole day.
type Window struct {
	Set   bool `json:"set,omitempty"`
	Open  int  `json:"open,omitempty"`
	Close int  `json:"close,omitempty"`
}

// Bounds of what makes sense, so that no sum of them overflows.
const (
	minutesOfDay = 24 * 60
	maxEvery     = 10 * 366 * 24 * time.Hour
	maxEveryDays = 3660
)

// Check reports everything that is wrong with s.
func (s *Schedule) Check() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	e := s.Start.Every
	bad(e.Time >= 0 && e.Time <= maxEvery && e.Days >= 0 && e.Days <= maxEveryDays, "interval: from one second to ten years")
	bad(e.Time == 0 || e.Time >= time.Second, "interval %v: at least one second", e.Time)
	bad(e.Time == 0 || e.Days == 0, "interval: give days, or hours and smaller, not both")
	bad(e == Every{} || !s.Start.At.IsZero(), "an interval needs a session start to count from (STARTTIME)")
	bad(s.Start.Percent >= 0 && s.Start.Percent <= 100, "queue threshold %d: 0 to 100 percent", s.Start.Percent)
	bad(s.Start.Bytes >= 0, "queue threshold %d: 0 bytes or more", s.Start.Bytes)
	bad(s.Stop.After >= 0 && s.Stop.After <= maxEvery, "time limit %v: 0 to ten years", s.Stop.After)
	bad(s.Stop.Bytes >= 0, "byte limit %d: 0 or more", s.Stop.Bytes)
	w := s.Window
	bad(w.Open >= 0 && w.Open < minutesOfDay && w.Close >= 0 && w.Close < minutesOfDay, "window: times from 00:00 to 23:59")
	return errors.Join(errs...)
}

// Limits reports whether s ever holds anything back.
func (s *Schedule) Limits() bool { return !s.Disabled && (s.Start.any() || s.Window.Set) }

// Silent reports that s lets nothing pass by itself: a window alone starts nothing
// (B10.33). It deserves a word to the operator who sets it.
func (s *Schedule) Silent() bool { return !s.Disabled && s.Window.Set && !s.Start.any() }

func (c *Start) any() bool { return !c.At.IsZero() || c.Percent > 0 || c.Bytes > 0 }

// contains reports whether the window is open at t, in t's own time zone.
func (w Window) contains(t time.Time) bool {
	if !w.Set || w.Open == w.Close {
		return true
	}
	m := t.Hour()*60 + t.Minute()
	if w.Open < w.Close {
		return m >= w.Open && m < w.Close
	}
	return m >= w.Open || m < w.Close
}

// Next is the first session start later than t, by At and Every alone; zero if there is
// none.
func (c *Start) Next(t time.Time) time.Time { return c.nextAfter(t) }

// nextAfter is the first session start later than t, zero if there is none.
func (c *Start) nextAfter(t time.Time) time.Time {
	switch {
	case c.At.IsZero():
		return time.Time{}
	case c.At.After(t):
		return c.At
	case c.Every.Days > 0:
		return c.dayAfter(t)
	case c.Every.Time > 0:
		n := t.Sub(c.At)/c.Every.Time + 1
		return c.At.Add(n * c.Every.Time)
	}
	return time.Time{}
}

// dayAfter steps by calendar days: from a day before the one that arithmetic in hours
// gives, because a day may have 23 or 25 of them.
func (c *Start) dayAfter(t time.Time) time.Time {
	n := int(t.Sub(c.At)/(24*time.Hour))/c.Every.Days - 1
	for n = max(n, 0); ; n++ {
		if at := c.At.AddDate(0, 0, n*c.Every.Days); at.After(t) {
			return at
		}
	}
}
