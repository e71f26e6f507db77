package stream

import (
	"fmt"
	"log/slog"
)

// serverLog hands the messaging server's own log lines to slog. The first fatal line
// (a port in use, say) is kept for Start.
type serverLog struct {
	log   *slog.Logger
	fatal chan string // capacity 1
}

func (l serverLog) Noticef(f string, v ...any) {
	l.log.Debug("messaging server", "text", fmt.Sprintf(f, v...))
}
func (l serverLog) Debugf(f string, v ...any) {
	l.log.Debug("messaging server", "text", fmt.Sprintf(f, v...))
}
func (l serverLog) Tracef(string, ...any) {}
func (l serverLog) Warnf(f string, v ...any) {
	l.log.Warn("messaging server", "text", fmt.Sprintf(f, v...))
}
func (l serverLog) Errorf(f string, v ...any) {
	l.log.Warn("messaging server error", "text", fmt.Sprintf(f, v...))
}
func (l serverLog) Fatalf(f string, v ...any) {
	text := fmt.Sprintf(f, v...)
	l.log.Error("messaging server stopped", "text", text)
	select {
	case l.fatal <- text:
	default:
	}
}
