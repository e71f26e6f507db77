package event

import "time"

// Limits of repetition: of one kind about one thing, the same text is written once in
// floodWindow, and at most floodBurst different texts; the rest is counted.
const (
	floodWindow = 10 * time.Second
	floodBurst  = 20
	floodKeys   = 1024 // pairs of kind and thing remembered; the oldest gives way
)

type floodKey struct {
	id    ID
	about About
}

// floodState is one window of one pair.
type floodState struct {
	began   time.Time
	written int
	text    string // last written
	hidden  int    // left out since
	last    Event  // the last that was left out
}

// flood decides which events become rows. It has no clock and no lock of its own.
type flood struct{ seen map[floodKey]*floodState }

// admit reports whether e becomes a row. earlier rows tell what was left out before.
func (f *flood) admit(e Event) (ok bool, earlier []Event) {
	if f.seen == nil {
		f.seen = map[floodKey]*floodState{}
	}
	key := floodKey{e.ID, e.About}
	s := f.seen[key]
	if s != nil && e.Time.Sub(s.began) >= floodWindow {
		earlier = append(earlier, s.summary()...)
		delete(f.seen, key)
		s = nil
	}
	if s == nil {
		earlier = append(earlier, f.makeRoom()...)
		f.seen[key] = &floodState{began: e.Time, written: 1, text: e.Text}
		return true, earlier
	}
	if s.text == e.Text || s.written >= floodBurst {
		s.hidden++
		s.last = e
		return false, earlier
	}
	s.written++
	s.text = e.Text
	return true, append(earlier, s.summary()...)
}

// summary is the row that tells what was left out, if anything was.
func (s *floodState) summary() []Event {
	if s.hidden == 0 {
		return nil
	}
	e := s.last
	e.Repeated = s.hidden
	s.hidden = 0
	return []Event{e}
}

// makeRoom drops the oldest pair when there are too many.
func (f *flood) makeRoom() []Event {
	if len(f.seen) < floodKeys {
		return nil
	}
	var oldest floodKey
	var at time.Time
	for k, s := range f.seen {
		if at.IsZero() || s.began.Before(at) {
			oldest, at = k, s.began
		}
	}
	out := f.seen[oldest].summary()
	delete(f.seen, oldest)
	return out
}

// due returns the summaries of windows that are over at now (all: of every window), and
// when the next one with something left out ends; zero if there is none.
func (f *flood) due(now time.Time, all bool) (rows []Event, next time.Time) {
	for k, s := range f.seen {
		end := s.began.Add(floodWindow)
		if all || !now.Before(end) {
			rows = append(rows, s.summary()...)
			delete(f.seen, k)
		} else if s.hidden > 0 && (next.IsZero() || end.Before(next)) {
			next = end
		}
	}
	return rows, next
}
