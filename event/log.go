package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// Config of a log. Zero values mean the defaults.
type Config struct {
	Dir       string // of the journal; "": none is kept
	FileBytes int64  // of one journal file; default 1 MiB
	Files     int    // of the journal; default 5
	Log       *slog.Logger
}

const (
	maxRecent = 1024 // rows kept in memory
	maxAlerts = 4096 // conditions at a time; more are events only
	syncEvery = time.Second
)

// Log takes events and keeps alerts. Its methods may be called by several goroutines at
// once and wait for no more than a write to the journal file.
type Log struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	journal *journal   // nil: none
	seq     uint64
	recent  []Event // the last rows, oldest first, at most maxRecent
	flood   flood
	alerts  map[floodKey]*Alert
	timer   *time.Timer   // of summaries and syncs; nil: nothing waits
	dirty   bool          // rows not synced
	failed  bool          // the journal could not be written, and it was said
	damaged int           // rows of the journal that could not be read
	changed chan struct{} // closed and replaced at each row and alert
	closed  bool
}

// Open begins a log. A journal that cannot be opened is an error; damaged rows are not.
func Open(cfg Config) (*Log, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.FileBytes <= 0 {
		cfg.FileBytes = defaultFileBytes
	}
	if cfg.Files <= 0 {
		cfg.Files = defaultFiles
	}
	l := &Log{log: cfg.Log, alerts: map[floodKey]*Alert{}, changed: make(chan struct{})}
	if cfg.Dir == "" {
		return l, nil
	}
	var rows []Event
	var err error
	if l.journal, rows, l.damaged, err = openJournal(cfg.Dir, cfg.FileBytes, cfg.Files); err != nil {
		return nil, err
	}
	for _, e := range rows {
		l.seq = max(l.seq, e.Seq)
	}
	l.seq += uint64(l.damaged) // whose numbers are not known
	l.recent = rows[max(0, len(rows)-maxRecent):]
	if l.damaged > 0 {
		l.log.Warn("event journal has damaged rows", "count", l.damaged)
	}
	return l, nil
}

// Close writes what was left out and syncs the journal.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	rows, _ := l.flood.due(time.Time{}, true)
	l.write(rows...)
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.announce()
	if l.journal == nil {
		return nil
	}
	if err := l.journal.close(); err != nil {
		return fmt.Errorf("close event journal: %w", err)
	}
	return nil
}

// Raise tells that something happened. The arguments fill the text, in the order of the
// table; a wrong number of them is our mistake and shows as such, an unknown id too.
func (l *Log) Raise(id ID, about About, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.raise(id, about, args)
}

// Set tells that a condition holds. Its event is raised when it begins; reports while it
// holds are counted, and the last one's arguments are shown.
func (l *Log) Set(id ID, about About, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := floodKey{id, about}
	a := l.alerts[key]
	if a == nil {
		e := l.raise(id, about, args)
		if len(l.alerts) >= maxAlerts {
			return
		}
		a = &Alert{ID: id, Severity: e.Severity, Since: e.Time, About: about, Action: byID[id].Action}
		l.alerts[key] = a
		l.announce()
	}
	a.Times++
	a.args = texts(args)
	a.Text = byID[id].fill(a.args)
}

// Clear tells that conditions about something do not hold any more. Those that held
// raise the event of their cure, each kind of cure once.
func (l *Log) Clear(about About, ids ...ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var cures []ID
	for _, id := range ids {
		key := floodKey{id, about}
		a := l.alerts[key]
		if a == nil {
			continue
		}
		delete(l.alerts, key)
		l.announce()
		if cure := byID[id].Cure; cure != 0 && !slices.Contains(cures, cure) {
			cures = append(cures, cure)
			l.raise(cure, about, cureArgs(byID[id], byID[cure], a.args))
		}
	}
}

// cureArgs are the arguments of a condition that its cure mentions, by name.
func cureArgs(k, cure Kind, args []string) []any {
	var out []any
	for _, name := range cure.Args {
		if i := slices.Index(k.Args, name); i >= 0 && i < len(args) {
			out = append(out, args[i])
		}
	}
	return out
}

// Forget drops all conditions about something that is gone, without an event.
func (l *Log) Forget(about About) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.alerts {
		if key.about == about {
			delete(l.alerts, key)
		}
	}
	l.announce()
}

// Alerts about something, oldest first; of everything if about is nil.
func (l *Log) Alerts(about *About) []Alert {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Alert
	for key, a := range l.alerts {
		if about == nil || key.about == *about {
			out = append(out, *a)
		}
	}
	slices.SortFunc(out, func(a, b Alert) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return int(a.ID - b.ID)
	})
	return out
}

// List returns the rows after since, oldest first: the newest limit of them, or, with
// since given, the first limit. The newest of what was left out so far is not a row yet.
func (l *Log) List(since uint64, limit int) (rows []Event, damaged int, err error) {
	l.mu.Lock()
	recent, damaged, j, seq := slices.Clone(l.recent), l.damaged, l.journal, l.seq
	l.mu.Unlock()
	oldest := seq + 1
	if len(recent) > 0 {
		oldest = recent[0].Seq
	}
	enough := since == 0 && limit > 0 && limit <= len(recent)
	if j != nil && oldest > since+1 && !enough { // what memory does not have
		older, _, err := j.read(since)
		if err != nil {
			return nil, damaged, err
		}
		for _, e := range older {
			if e.Seq < oldest {
				rows = append(rows, e)
			}
		}
	}
	for _, e := range recent {
		if e.Seq > since {
			rows = append(rows, e)
		}
	}
	switch {
	case limit <= 0 || len(rows) <= limit:
	case since == 0:
		rows = rows[len(rows)-limit:]
	default:
		rows = rows[:limit]
	}
	return rows, damaged, nil
}

// Last is the number of the newest row.
func (l *Log) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq
}

// Await waits until there is a row after since, the log is closed, or ctx ends.
func (l *Log) Await(ctx context.Context, since uint64) error {
	for {
		l.mu.Lock()
		ready, changed := l.seq > since || l.closed, l.changed
		l.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// raise makes the event and writes it, unless it is one of many. l.mu is held.
func (l *Log) raise(id ID, about About, args []any) Event {
	k, ok := byID[id]
	if !ok {
		k = Kind{ID: id, Category: service, Severity: Error, Phrase: "unknown event", Text: "event %1 is not in the table"}
		args = []any{int(id)}
	}
	e := Event{Time: time.Now().UTC(), ID: id, Category: k.Category, Severity: k.Severity, Args: texts(args), About: about}
	e.Text = k.fill(e.Args)
	ok, earlier := l.flood.admit(e)
	l.write(earlier...)
	if ok {
		l.write(e)
	}
	l.arm()
	return e
}

// texts makes arguments short enough for a row.
func texts(args []any) []string {
	var out []string
	for _, a := range args {
		s := fmt.Sprint(a)
		if len(s) > maxArg {
			s = s[:maxArg] + "..."
		}
		out = append(out, s)
	}
	return out
}

// write makes rows. l.mu is held.
func (l *Log) write(rows ...Event) {
	for _, e := range rows {
		if l.closed {
			return
		}
		l.seq++
		e.Seq = l.seq
		if len(l.recent) >= maxRecent {
			l.recent = append(l.recent[:0], l.recent[1:]...)
		}
		l.recent = append(l.recent, e)
		l.announce()
		l.tell(e)
		if l.journal == nil {
			continue
		}
		err := l.journal.append(e)
		if err != nil && !l.failed {
			l.log.Warn("event journal not written", "err", err)
		}
		l.failed = err != nil
		l.dirty = true
	}
}

// tell writes the row to the log.
func (l *Log) tell(e Event) {
	k := byID[e.ID]
	attrs := []slog.Attr{slog.Int("event", int(e.ID)), slog.String("category", e.Category)}
	for i, a := range e.Args {
		name := fmt.Sprintf("param%d", i+1)
		if i < len(k.Args) {
			name = k.Args[i]
		}
		attrs = append(attrs, slog.String(name, a))
	}
	for _, f := range [][2]string{{"connection", e.About.Connection}, {"from", e.About.Source}, {"captured", e.About.Dir}} {
		if f[1] != "" {
			attrs = append(attrs, slog.String(f[0], f[1]))
		}
	}
	if e.Repeated > 0 {
		attrs = append(attrs, slog.Int("repeated", e.Repeated))
	}
	l.log.LogAttrs(context.Background(), e.Severity.Level(), k.Phrase, attrs...)
}

// announce wakes who follows. l.mu is held.
func (l *Log) announce() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// arm sets the timer for what waits: summaries and the sync of the journal. Without
// any, no timer runs. l.mu is held.
func (l *Log) arm() {
	if l.timer != nil || l.closed {
		return
	}
	_, next := l.flood.due(time.Now(), false)
	var wait time.Duration
	switch {
	case l.dirty:
		wait = syncEvery
	case !next.IsZero():
		wait = max(time.Until(next), time.Millisecond)
	default:
		return
	}
	l.timer = time.AfterFunc(wait, l.expire)
}

// expire writes summaries whose time has come and syncs the journal; nobody waits for
// the disk meanwhile.
func (l *Log) expire() {
	l.mu.Lock()
	l.timer = nil
	if l.closed {
		l.mu.Unlock()
		return
	}
	rows, _ := l.flood.due(time.Now(), false)
	l.write(rows...)
	var file *os.File
	if l.dirty && l.journal != nil {
		file = l.journal.cur
	}
	l.dirty = false
	l.arm()
	l.mu.Unlock()
	if file == nil {
		return
	}
	if err := file.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		l.log.Warn("event journal not synced", "err", err)
	}
}
