package node

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/control"
)

// set changes a setting of the source.
func (p *pair) set(name, value string) {
	p.t.Helper()
	_, err := p.source.setSetting(p.t.Context(), control.SettingRequest{Name: name, Value: value})
	must(p.t, err)
}

// TestVerifyLogObeysItsSettings (G44): name, append or replace, and limit count from the
// next verification on.
func TestVerifyLogObeysItsSettings(t *testing.T) {
	p := newPair(t, false)
	for i := range 30 {
		must(t, os.WriteFile(filepath.Join(p.dir, "file-"+strconv.Itoa(i)), []byte("x"), 0o644))
	}
	p.connect()
	p.settle()
	for i := range 30 {
		must(t, os.WriteFile(filepath.Join(p.replica, "file-"+strconv.Itoa(i)), []byte("other"), 0o644))
	}
	p.set("VerifyLogName", "Night.log")
	log := func(begins, ends int) string {
		t.Helper()
		rep := p.verified(control.VerifyRequest{})
		if want := filepath.Join(p.source.conf().logDir(), "tree Night.log"); rep.Log != want || rep.Totals.Different != 30 {
			t.Fatalf("log %q, want %q; %d differences", rep.Log, want, rep.Totals.Different)
		}
		b, err := os.ReadFile(rep.Log)
		must(t, err)
		if a, b := strings.Count(string(b), "--- begin "), strings.Count(string(b), "--- end "); a != begins || b != ends {
			t.Fatalf("%d begins and %d ends, want %d and %d", a, b, begins, ends)
		}
		return string(b)
	}
	if s := log(1, 1); strings.Count(s, "file-") != 30 || !strings.Contains(s, ": 30 differences\n") {
		t.Fatalf("a line for each difference and their number:\n%s", s)
	}
	if s := log(2, 2); strings.Count(s, "file-") != 60 {
		t.Fatalf("the second verification is appended:\n%s", s)
	}
	p.set("VerifyLogAppend", "0")
	log(1, 1)
	log(1, 1)
	p.set("VerifyLogLimit", "6000") // 4 KiB of them are kept for the end
	if s := log(1, 1); len(s) > 6000 || strings.Count(s, "file-") > 29 || !strings.Contains(s, "lines left out, the log is full") {
		t.Fatalf("a log of %d bytes:\n%s", len(s), s)
	}
	p.set("VerifyLogAppend", "1")
	p.set("VerifyLogLimit", "10")
	before := log(1, 1)
	if after := log(1, 1); after != before {
		t.Fatal("a full log is written to")
	}
	p.set("VerifyLogLimit", "0")
	if rep := p.verified(control.VerifyRequest{}); rep.Log != "" {
		t.Fatalf("a log is written: %s", rep.Log)
	}
}

// TestVerifyObeysTheBandwidthLimit (G29): what a verification asks and is answered takes
// its share of the limit of the target.
func TestVerifyObeysTheBandwidthLimit(t *testing.T) {
	p := newPair(t, false)
	for i := range 60 {
		dir := filepath.Join(p.dir, "dir-"+strconv.Itoa(i))
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o644))
	}
	p.connect()
	p.settle()
	c, err := p.source.connection(p.id)
	must(t, err)
	cost := func() (uint64, time.Duration) {
		t.Helper()
		before, start := c.limits.valve.Passed(), time.Now()
		if rep := p.verified(control.VerifyRequest{Checksum: true}); !rep.Equal {
			t.Fatalf("%+v", rep)
		}
		return c.limits.valve.Passed() - before, time.Since(start)
	}
	free, took := cost()
	if free < 60*40 { // a question and an answer of some ten bytes for each
		t.Fatalf("a verification of 60 directories and files counted as %d bytes", free)
	}
	rate := int64(free / 3) // a second; a second's worth may go at once
	must(t, c.limits.change(func(l *storedLimits) error { l.Bytes, l.Period = rate, time.Second; return nil }))
	limited, slow := cost()
	t.Logf("%d bytes in %v; limited to %d a second: %d bytes in %v", free, took, rate, limited, slow)
	if least := time.Duration(float64(limited-uint64(rate)) / float64(rate) * 0.9 * float64(time.Second)); slow < least {
		t.Fatalf("%d bytes at %d a second in %v, want at least %v", limited, rate, slow, least)
	}
}
