package node

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"understudy/control"
	"understudy/verifier"
)

// The log of verifications, on the source (B9.12): for each set a file of lines, framed by
// a begin and an end.
const verifyLogEnd = 4 << 10 // bytes kept for the end of a run

// verifyLog writes one run, by the settings of its beginning. A log that cannot be written costs its lines, no verification.
type verifyLog struct {
	c    *Connection
	f    *os.File
	room int64
	cut  uint64 // lines left out
}

func (c *Connection) openVerifyLog(o verifier.Options) *verifyLog {
	l := &verifyLog{c: c}
	conf := c.n.conf()
	if conf.VerifyLogLimit == 0 {
		return l
	}
	path := filepath.Join(conf.logDir(), strings.ReplaceAll(c.cfg.Set, "/", "_")+" "+conf.VerifyLogName)
	how := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if !conf.VerifyLogAppend {
		how |= os.O_TRUNC
	}
	f, err := os.OpenFile(path, how, 0o640)
	if err != nil {
		c.log.Warn("verification log not written", "err", err)
		return l
	}
	l.f, l.room = f, conf.VerifyLogLimit
	if st, err := f.Stat(); err == nil {
		l.room -= st.Size()
	}
	l.line(0, "--- begin %s: set %s, connection %d, %s to %s, %s", time.Now().Format(time.RFC3339), c.cfg.Set, c.ID, c.n.cfg.Name, c.cfg.Target, manner(o))
	return l
}

// manner says how a run compares.
func manner(o verifier.Options) string {
	how := "by date, size and attributes"
	switch {
	case o.OrphansOnly:
		how = "orphans only"
	case o.Checksum:
		how = "by checksum of all files"
	}
	if o.Treat {
		how += ", orphans are treated"
	}
	return how
}

// line writes a line, unless the log is full but for reserve bytes.
func (l *verifyLog) line(reserve int64, format string, args ...any) {
	if l.f == nil {
		return
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, format+"\n", args...)
	if int64(b.Len())+reserve > l.room {
		l.cut++
		return
	}
	n, err := l.f.Write(b.Bytes())
	l.room -= int64(n)
	if err != nil {
		l.c.log.Warn("verification log not written", "err", err)
		l.room = 0
	}
}

// difference writes one line: kinds, bytes, blocks, path. Paths are quoted, so that a
// name with a line's end in it is one line.
func (l *verifyLog) difference(d *verifier.Difference) {
	kinds := make([]string, len(d.Kinds))
	for i, k := range d.Kinds {
		kinds[i] = string(k)
	}
	text := fmt.Sprintf("%-24s %12d bytes", strings.Join(kinds, ","), d.Bytes)
	if d.Blocks > 0 {
		text += fmt.Sprintf(" in %d blocks", d.Blocks)
	}
	if d.Treated != "" {
		text += " " + d.Treated
	}
	l.line(verifyLogEnd, "%s  %s", text, strconv.Quote(d.Path))
}

// end writes the totals and returns the log's path.
func (l *verifyLog) end(rep *control.VerifyReport) string {
	if l.f == nil {
		return ""
	}
	if l.cut > 0 {
		l.line(0, "    %d lines left out, the log is full", l.cut)
	}
	t, result := rep.Totals, "equal"
	switch {
	case rep.State != "done":
		result = rep.State + " " + rep.Error
	case !rep.Equal:
		result = fmt.Sprintf("%d differences", t.Different)
	}
	l.line(0, "    %d files and %d directories of %d bytes compared, %d missing, %d orphans (%d treated, %d bytes), %d bytes to send, %d not at rest, %d unreadable",
		t.Files, t.Dirs, t.Bytes, t.Missing, t.Orphans, t.Treated, t.TreatedBytes, t.ToSend, t.Unsettled, t.Errors)
	l.line(0, "--- end %s: %s", rep.Ended.Format(time.RFC3339), strings.TrimSpace(result))
	if err := l.f.Close(); err != nil {
		l.c.log.Warn("verification log not closed", "err", err)
	}
	return l.f.Name()
}

// verifyRefused tells the operator that a source directory is not what it was.
func (c *Connection) verifyRefused(err error) {
	c.log.Error("source directory is not the one that is protected, nothing compared", "err", err)
	c.note(err)
}
