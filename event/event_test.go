package event

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func open(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func list(t testing.TB, l *Log, since uint64, limit int) []Event {
	t.Helper()
	rows, _, err := l.List(since, limit)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

var con = About{Connection: "k", Set: "accounts", Target: "jersey"}

// TestTable: every number once, every argument in the text, every cure without an
// argument that its condition does not give.
func TestTable(t *testing.T) {
	param := regexp.MustCompile(`%[0-9]`)
	seen := map[ID]bool{}
	for _, k := range Kinds() {
		if seen[k.ID] {
			t.Errorf("%d stands twice in the table", k.ID)
		}
		seen[k.ID] = true
		if k.Phrase == "" || strings.ToLower(k.Phrase) != k.Phrase {
			t.Errorf("%d: phrase %q", k.ID, k.Phrase)
		}
		if n := len(param.FindAllString(k.Text, -1)); n > len(k.Args) {
			t.Errorf("%d: %d places in the text, %d arguments", k.ID, n, len(k.Args))
		}
		if (k.Severity == Warning || k.Severity == Error) && k.Action == "" && k.Cure != 0 {
			t.Errorf("%d: an alert without an action", k.ID)
		}
		if k.Cure == 0 {
			continue
		}
		cure, ok := Lookup(k.Cure)
		if !ok {
			t.Errorf("%d: cure %d is not in the table", k.ID, k.Cure)
		}
		for _, a := range cure.Args {
			if !slices.Contains(k.Args, a) {
				t.Errorf("%d: its cure %d wants %q", k.ID, k.Cure, a)
			}
		}
	}
}

// TestAlertBeginsAndEnds: a condition raises its event once, shows, counts, and ends
// with its cure.
func TestAlertBeginsAndEnds(t *testing.T) {
	l := open(t, Config{})
	l.Clear(con, LinkLost)
	l.Set(LinkLost, con, "jersey")
	l.Set(LinkLost, con, "jersey")
	l.Set(WriteFull, con, "no space")
	got := l.Alerts(&con)
	if len(got) != 2 || got[0].ID != LinkLost || got[0].Times != 2 || got[0].Action == "" || !strings.Contains(got[0].Text, "jersey") {
		t.Fatalf("alerts: %+v", got)
	}
	if other := l.Alerts(&About{Source: "indy"}); len(other) != 0 {
		t.Fatalf("alerts about something else: %+v", other)
	}
	l.Clear(con, LinkLost, ConnectFailed)
	l.Clear(con, LinkLost, ConnectFailed)
	l.Forget(con)
	if got := l.Alerts(nil); len(got) != 0 {
		t.Fatalf("alerts after the cure: %+v", got)
	}
	var ids []ID
	for _, e := range list(t, l, 0, 0) {
		ids = append(ids, e.ID)
	}
	if want := []ID{LinkLost, WriteFull, LinkUp}; !slices.Equal(ids, want) {
		t.Errorf("events %v, want %v", ids, want)
	}
}

// TestSameEventIsCounted: what comes again and again is one row, then one that says how
// often; the number of rows has a bound whatever comes.
func TestSameEventIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{})
		for range 100 {
			l.Raise(LinkLost, con, "jersey")
		}
		if rows := list(t, l, 0, 0); len(rows) != 1 {
			t.Fatalf("%d rows at once", len(rows))
		}
		time.Sleep(floodWindow + time.Second)
		synctest.Wait()
		rows := list(t, l, 0, 0)
		if len(rows) != 2 || rows[1].Repeated != 99 {
			t.Fatalf("rows: %+v", rows)
		}
		for i := range 1000 { // different texts
			l.Raise(WriteDropped, con, i, "err")
		}
		if rows := list(t, l, 0, 0); len(rows) != 2+floodBurst {
			t.Fatalf("%d rows", len(rows))
		}
		time.Sleep(floodWindow + time.Second)
		synctest.Wait()
		if rows := list(t, l, 0, 0); len(rows) != 3+floodBurst || rows[len(rows)-1].Repeated != 1000-floodBurst {
			t.Fatalf("last of %d rows: %+v", len(rows), rows[len(rows)-1])
		}
		for i := range 10 * floodKeys { // about different things
			l.Raise(LinkLost, About{Connection: fmt.Sprint(i)}, i)
		}
		if n := len(l.flood.seen); n > floodKeys {
			t.Errorf("%d pairs remembered", n)
		}
		if n := len(list(t, l, 0, 0)); n > maxRecent {
			t.Errorf("%d rows in memory", n)
		}
	})
}

// TestJournalSurvivesAKill: rows are in the file when Raise returns; a log that was not
// closed goes on with the next number.
func TestJournalSurvivesAKill(t *testing.T) {
	dir := t.TempDir()
	killed, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	killed.Raise(DaemonStarted, About{}, "1")
	killed.Raise(LinkLost, con, "jersey")
	l := open(t, Config{Dir: dir}) // killed is not closed
	l.Raise(DaemonStarted, About{}, "2")
	rows := list(t, l, 0, 0)
	if len(rows) != 3 || rows[2].Seq != 3 || rows[1].Text == "" || rows[1].About != con {
		t.Fatalf("rows: %+v", rows)
	}
	if rows := list(t, l, 2, 0); len(rows) != 1 || rows[0].Seq != 3 {
		t.Fatalf("rows since 2: %+v", rows)
	}
	if rows := list(t, l, 0, 2); len(rows) != 2 || rows[0].Seq != 2 {
		t.Fatalf("the newest two: %+v", rows)
	}
	if rows := list(t, l, 1, 1); len(rows) != 1 || rows[0].Seq != 2 {
		t.Fatalf("the first after 1: %+v", rows)
	}
}

// TestJournalIsBounded: files are begun anew when full, the oldest deleted; what memory
// does not have is read from them.
func TestJournalIsBounded(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir, FileBytes: 64 << 10, Files: 3})
	for i := range 3 * maxRecent {
		l.Raise(SourceUnreadable, About{Connection: fmt.Sprint(i)}, "/some/file", "permission denied")
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 3 {
		t.Fatalf("files %v, %v", names, err)
	}
	for _, name := range names {
		if st, err := os.Stat(name); err != nil || st.Size() > 64<<10+maxRow {
			t.Errorf("%s: %v", name, err)
		}
	}
	rows := list(t, l, 0, 0)
	first, last := rows[0].Seq, rows[len(rows)-1].Seq
	if last != 3*maxRecent || last-first+1 != uint64(len(rows)) {
		t.Errorf("%d rows, %d to %d", len(rows), first, last)
	}
	if since := last - 10; len(list(t, l, since, 0)) != 10 {
		t.Errorf("rows since %d: %d", since, len(list(t, l, since, 0)))
	}
}

// TestJournalToleratesDamage: whatever is damaged, opening works, every whole row is
// there, and numbers are not used twice.
func TestJournalToleratesDamage(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"torn":      func(b []byte) []byte { return b[:len(b)-7] },
		"flipped":   func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
		"no end":    func(b []byte) []byte { return b[:len(b)-1] },
		"zeroed":    func(b []byte) []byte { clear(b[len(b)-40:]); return b },
		"empty":     func([]byte) []byte { return nil },
		"all zeros": func(b []byte) []byte { clear(b); return b },
		"nonsense":  func([]byte) []byte { return []byte("00000000 {}\n\n\xff\xff\xff\xff \n12345678 null\n") },
	} {
		dir := t.TempDir()
		l := open(t, Config{Dir: dir})
		for i := range 10 {
			l.Raise(LinkLost, About{Connection: fmt.Sprint(i)}, i)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "events-1.log")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Count(string(data), "\n")
		data = damage(data)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		l = open(t, Config{Dir: dir})
		kept := list(t, l, 0, 0)
		l.Raise(DaemonStarted, About{}, "again")
		again := open(t, Config{Dir: dir})
		rows := list(t, again, 0, 0)
		if n := len(rows); n != len(kept)+1 || rows[n-1].ID != DaemonStarted {
			t.Errorf("%s: %d rows kept of %d, then %d: %+v", name, len(kept), lines, n, rows)
		}
		if n := len(rows); n > 1 && rows[n-1].Seq <= rows[n-2].Seq {
			t.Errorf("%s: number %d after %d", name, rows[n-1].Seq, rows[n-2].Seq)
		}
	}
}

// TestFullDiskCostsOnlyRows: a journal that cannot be written holds up nobody.
func TestFullDiskCostsOnlyRows(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir})
	if err := l.journal.cur.Close(); err != nil { // every write fails
		t.Fatal(err)
	}
	l.Raise(LinkLost, con, "jersey")
	if rows := list(t, l, 0, 0); len(rows) != 1 {
		t.Fatalf("rows: %+v", rows)
	}
	l.journal.cur = nil
}

// TestFollow: who waits is woken by the next row, by the end, and by his own patience.
func TestFollow(t *testing.T) {
	l := open(t, Config{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.Await(ctx, 0); err != nil {
			t.Error(err)
		}
	})
	l.Raise(DaemonStarted, About{}, "1")
	wg.Wait()
	short, stop := context.WithCancel(ctx)
	stop()
	if err := l.Await(short, l.Last()); err == nil {
		t.Error("waited for nothing")
	}
	wg.Go(func() {
		if err := l.Await(ctx, l.Last()); err != nil {
			t.Error(err)
		}
	})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

// TestManyAtOnce: numbers are contiguous whoever raises.
func TestManyAtOnce(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 100 {
				about := About{Connection: fmt.Sprint(g, i)}
				l.Set(LinkLost, about, i)
				l.Alerts(nil)
				list(t, l, 0, 10)
				l.Clear(about, LinkLost)
			}
		})
	}
	wg.Wait()
	rows := list(t, l, 0, 0)
	for i, e := range rows {
		if e.Seq != uint64(i+1) {
			t.Fatalf("row %d has number %d", i, e.Seq)
		}
	}
	if len(rows) != 1600 || len(l.Alerts(nil)) != 0 {
		t.Errorf("%d rows, %d alerts left", len(rows), len(l.Alerts(nil)))
	}
}

// FuzzJournal: any bytes are read without a panic, and only whole rows come out.
func FuzzJournal(f *testing.F) {
	row, err := encodeRow(Event{Seq: 1, ID: LinkLost, Text: "x"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(row)
	f.Add([]byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, damaged := decodeRows(data)
		if len(rows)+damaged > strings.Count(string(data), "\n")+1 {
			t.Errorf("%d rows and %d damaged", len(rows), damaged)
		}
	})
}
