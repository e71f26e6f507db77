package stream

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// maxServerLines bounds what the messaging server warns of in serverLinesEvery: it writes
// a line for every message a peer may not send, and a peer can send many.
const (
	maxServerLines   = 20
	serverLinesEvery = 10 * time.Second
)

// serverLog hands the messaging server's own log lines to slog. The first fatal line
// (a port in use, say) is kept for Start.
type serverLog struct {
	log   *slog.Logger
	fatal chan string // capacity 1
	few   *few        // of warnings
}

func newServerLog(log *slog.Logger) serverLog {
	return serverLog{log: log, fatal: make(chan string, 1), few: new(few)}
}

// few lets some lines pass in a time and counts the others. The zero value is ready; its
// method may be called by several goroutines at once.
type few struct {
	mu    sync.Mutex // guards what follows
	begun time.Time
	said  int
	left  int // lines left out since one passed
}

// pass reports whether a line may be written, and how many before it were not.
func (f *few) pass(now time.Time) (ok bool, left int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.begun) >= serverLinesEvery {
		f.begun, f.said = now, 0
	}
	if f.said >= maxServerLines {
		f.left++
		return false, 0
	}
	f.said++
	left, f.left = f.left, 0
	return true, left
}

// warn writes a line unless there were too many lately.
func (l serverLog) warn(msg, f string, v []any) {
	ok, left := l.few.pass(time.Now())
	if !ok {
		return
	}
	args := []any{"text", fmt.Sprintf(f, v...)}
	if left > 0 {
		args = append(args, "left_out", left)
	}
	l.log.Warn(msg, args...)
}

func (l serverLog) Noticef(f string, v ...any) {
	l.log.Debug("messaging server", "text", fmt.Sprintf(f, v...))
}
func (l serverLog) Debugf(f string, v ...any) {
	l.log.Debug("messaging server", "text", fmt.Sprintf(f, v...))
}
func (l serverLog) Tracef(string, ...any)     {}
func (l serverLog) Warnf(f string, v ...any)  { l.warn("messaging server", f, v) }
func (l serverLog) Errorf(f string, v ...any) { l.warn("messaging server error", f, v) }
func (l serverLog) Fatalf(f string, v ...any) {
	text := fmt.Sprintf(f, v...)
	l.log.Error("messaging server stopped", "text", text)
	select {
	case l.fatal <- text:
	default:
	}
}
