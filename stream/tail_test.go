package stream

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// smallTail has segments of some records, so that few records fill and wrap it.
func smallTail(t testing.TB) *Tail {
	t.Helper()
	tl, err := newTail(testEpoch, 2, 512, 5)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tl.Close() })
	return tl
}

// copyOf is what the holder would keep if the process were killed now.
func copyOf(t testing.TB, image []byte) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "test")
	if _, err := f.Write(image); err != nil {
		t.Fatal(err)
	}
	return f
}

// reopen returns what a successor finds.
func reopen(t testing.TB, image []byte) (*Tail, []record, error) {
	t.Helper()
	f := copyOf(t, image)
	tl, err := OpenTail(f)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	t.Cleanup(func() { tl.Close() })
	first := tl.next
	if len(tl.live) > 0 {
		first = tl.live[0].first
	}
	var got []record
	err = tl.after(first-1, func(r record) { got = append(got, r) })
	return tl, got, err
}

// content of record seq, of a length that depends on it.
func content(seq fileop.Seq) []byte {
	return slices.Repeat([]byte{byte(seq), byte(seq >> 8)}, int(seq*7%90))
}

func tokenOf(seq fileop.Seq) uint64 {
	if seq%3 == 0 {
		return 0
	}
	return uint64(seq) + fileop.TokenSlots*uint64(seq%5)
}

// TestTailAtEveryStore: whoever is killed between any two stores leaves a tail that
// holds every record put, none twice and none halved, and knows exactly which requests
// are logged.
func TestTailAtEveryStore(t *testing.T) {
	tl := smallTail(t)
	rng := rand.New(rand.NewPCG(1, 2))
	var put, acked fileop.Seq // what returned, and what the queue has
	looks := 0
	tl.step = func() {
		looks++
		got, records, err := reopen(t, tl.data)
		if err != nil {
			t.Fatalf("killed behind record %d: %v", put, err)
		}
		defer got.Close()
		checkRecords(t, got, records, put, acked)
	}
	for range 400 {
		if err := tl.put(put+1, put/2, uint32(put%2), tokenOf(put+1), content(put+1), crcOf(content(put+1))); err == nil {
			put++
		} else if !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		if rng.IntN(3) == 0 {
			acked += fileop.Seq(rng.IntN(int(put-acked) + 1))
			tl.trim(acked)
		}
	}
	if put < 200 || looks < 1000 {
		t.Fatalf("only %d records, %d looks", put, looks)
	}
}

func crcOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func checkRecords(t *testing.T, tl *Tail, records []record, put, acked fileop.Seq) {
	t.Helper()
	last := tl.next - 1
	if last < put || last > put+1 {
		t.Fatalf("ends at record %d, %d were put", last, put)
	}
	if len(records) > 0 && records[0].seq > acked+1 || len(records) == 0 && last > acked {
		t.Fatalf("%d records up to %d, the queue has %d", len(records), last, acked)
	}
	for _, r := range records {
		if string(r.data) != string(content(r.seq)) || r.other != (r.seq-1)/2 || r.token != tokenOf(r.seq) {
			t.Fatalf("record %d is another: %+v", r.seq, r)
		}
	}
	for seq := fileop.Seq(1); seq <= put+2; seq++ {
		tree, token := uint32((seq-1)%2), tokenOf(seq)
		if token == 0 {
			continue
		}
		if got, want := tl.logged(tree, token), seq <= last; got != want {
			t.Fatalf("token of record %d: logged %v, want %v", seq, got, want)
		}
		if tl.logged(1-tree, token) {
			t.Fatalf("token of record %d counts for the other tree", seq)
		}
	}
}

// TestDamagedTailIsRefused: a tail with any flipped bit in what it counts on is refused,
// so that a new epoch begins.
func TestDamagedTailIsRefused(t *testing.T) {
	tl := smallTail(t)
	for seq := fileop.Seq(1); seq <= 9; seq++ {
		if err := tl.put(seq, 0, 0, 0, content(seq), crcOf(content(seq))); err != nil {
			t.Fatal(err)
		}
	}
	image := slices.Clone(tl.data)
	var places []int
	for i := range 44 {
		places = append(places, i)
	}
	for _, s := range tl.live {
		for i := range s.used {
			places = append(places, tl.at(s.index)+segmentHeader+i)
		}
		for i := range 24 {
			places = append(places, tl.at(s.index)+i)
		}
	}
	refused := 0
	for _, at := range places {
		bit := byte(1) << (at % 8)
		image[at] ^= bit
		got, records, err := reopen(t, image)
		image[at] ^= bit
		if err == nil { // padding
			if len(records) != 9 {
				t.Fatalf("byte %d flipped: %d records of 9", at, len(records))
			}
			got.Close()
			continue
		}
		refused++
		if !errors.Is(err, ErrBroken) {
			t.Fatalf("byte %d flipped: %v", at, err)
		}
	}
	if refused < len(places)*9/10 {
		t.Fatalf("%d of %d flips refused", refused, len(places))
	}
}

// TestTailOfEndedEpochIsRefused: nobody goes on behind a hole.
func TestTailOfEndedEpochIsRefused(t *testing.T) {
	tl := smallTail(t)
	tl.Kill()
	if _, _, err := reopen(t, tl.data); !errors.Is(err, ErrBroken) {
		t.Fatal(err)
	}
}

// FuzzTail: no bytes make OpenTail do anything but return.
func FuzzTail(f *testing.F) {
	tl, err := newTail(testEpoch, 1, 256, 2)
	if err != nil {
		f.Fatal(err)
	}
	for seq := fileop.Seq(1); seq <= 3; seq++ {
		_ = tl.put(seq, 0, 0, 7, content(seq), crcOf(content(seq)))
	}
	whole := slices.Clone(tl.data)
	tl.Close()
	f.Add(0, []byte{1})
	f.Add(tl.base, []byte("some bytes"))
	f.Fuzz(func(t *testing.T, at int, b []byte) {
		image := slices.Clone(whole)
		if at < 0 || at >= len(image) {
			image = b
		} else {
			copy(image[at:], b)
		}
		if tl, _, err := reopen(t, image); err == nil {
			tl.State()
			tl.mirrorEnd()
		}
	})
}

// TestTailGivesMemoryBack: after a burst the tail holds no more memory than before.
func TestTailGivesMemoryBack(t *testing.T) {
	tl, err := newTail(testEpoch, 1, tailSegment, 40)
	if err != nil {
		t.Fatal(err)
	}
	defer tl.Close()
	rec := make([]byte, 500<<10)
	for seq := fileop.Seq(1); seq <= 100; seq++ {
		if err := tl.put(seq, 0, 0, 0, rec, crcOf(rec)); err != nil {
			t.Fatal(err)
		}
	}
	if used := allocated(t, tl); used < 48<<20 {
		t.Fatalf("only %d bytes used", used)
	}
	tl.trim(100)
	for tl.shrink() {
	}
	if used := allocated(t, tl); used > (keepTouched+2)*tailSegment {
		t.Fatalf("%d bytes still used", used)
	}
	if err := tl.put(101, 0, 0, 0, rec, crcOf(rec)); err != nil {
		t.Fatal(err)
	}
	if _, records, err := reopen(t, tl.data); err != nil || records[len(records)-1].seq != 101 {
		t.Fatal(err)
	}
}

func allocated(t *testing.T, tl *Tail) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(tl.f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// TestQuietTail: doubts add up until it is quiet, and are told only if it is not.
func TestQuietTail(t *testing.T) {
	tl := smallTail(t)
	check := func(quiet bool, want Doubts) {
		t.Helper()
		for _, at := range []string{"here", "after a kill"} {
			s := tl
			if at != "here" {
				var err error
				if s, _, err = reopen(t, tl.data); err != nil {
					t.Fatal(err)
				}
			}
			q, d := s.State()
			if q != quiet || !quiet && d != want {
				t.Fatalf("%s: quiet %v, %+v; want %v, %+v", at, q, d, quiet, want)
			}
		}
	}
	check(false, Doubts{All: true}) // nobody knows better yet
	tl.Quiet(UnquietMirror)
	check(true, Doubts{})
	tl.Unquiet(UnquietOrder, Doubts{Since: fileop.Time{Sec: 500}})
	check(false, Doubts{Since: fileop.Time{Sec: 500}})
	tl.Unquiet(UnquietMirror, Doubts{Since: fileop.Time{Sec: 400, Nsec: 7}})
	check(false, Doubts{Since: fileop.Time{Sec: 400}})
	tl.Quiet(UnquietOrder)
	tl.Unquiet(UnquietMirror, Doubts{All: true})
	check(false, Doubts{All: true, Since: fileop.Time{Sec: 400}})
	tl.Quiet(UnquietMirror)
	check(true, Doubts{})
	tl.Unquiet(UnquietOrder, Doubts{})
	check(false, Doubts{})
	tl.store(wordClock, clockOffset()+60)
	check(false, Doubts{All: true})
}

// killed leaves a journal as a kill would: nothing is flushed, nothing more is stored.
// It returns the tail as the successor gets it.
func killed(t *testing.T, j *Journal, stop func()) *Tail {
	t.Helper()
	stop()
	j.mu.Lock()
	image := slices.Clone(j.tail.data)
	j.closed = true
	j.mu.Unlock()
	j.end(ErrClosed)
	j.st.close()
	if err := j.closeTail(); err != nil {
		t.Fatal(err)
	}
	tl, _, err := reopen(t, image)
	if err != nil {
		t.Fatal(err)
	}
	return tl
}

// TestJournalGoesOnBehindItsTail: a journal whose process is killed again and again goes
// on in its epoch; the target gets every operation once, in order.
func TestJournalGoesOnBehindItsTail(t *testing.T) {
	src := startServer(t, ServerConfig{Name: "alpha"})
	dst := startServer(t, ServerConfig{Name: "beta", Listen: "127.0.0.1:0", Keys: testKeys().beta})
	r := openReceiver(t, dst, ReceiverConfig{})
	l := dial(t, dst.Addr().String())
	rng := rand.New(rand.NewPCG(5, 6))
	tl, err := NewTail(testEpoch, 32<<20, 1)
	if err != nil {
		t.Fatal(err)
	}
	n, want, mirrored := 0, 1, fileop.Seq(0)
	for round := range 30 {
		j := openJournal(t, src, JournalConfig{Tail: tl})
		if last, k := j.Last(); int(last) != n || k != mirrored {
			t.Fatalf("round %d: goes on behind operation %d, record %d; %d and %d were put", round, last, k, n, mirrored)
		}
		if n > 0 && !j.Logged(0, uint64(n)) || j.Logged(0, uint64(n+1)) {
			t.Fatalf("round %d: the last operation, or one more, is in doubt", round)
		}
		_, stop := goRun(t, j.Run)
		tx := NewTransmitter(j, l, TransmitterConfig{Connection: "accounts", Source: "alpha"}, quiet())
		_, stopTx := goRun(t, tx.Run)
		for range 1 + rng.IntN(400) {
			n++
			op := write(n, rng.IntN(3000))
			op.Token = uint64(n)
			if _, err := j.Put(op); err != nil {
				t.Fatal(err)
			}
			if rng.IntN(20) == 0 {
				if mirrored, err = j.PutMirror(block(1, 10)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if rng.IntN(3) == 0 {
			f, i, err := r.Next(testCtx(t))
			if err != nil {
				t.Fatal(err)
			}
			want = expectRecords(t, &f, want)
			j.Confirm(i, f.Last())
		}
		stopTx()
		tl = killed(t, j, stop)
	}
	j := openJournal(t, src, JournalConfig{Tail: tl})
	goRun(t, j.Run)
	goRun(t, NewTransmitter(j, l, TransmitterConfig{Connection: "accounts", Source: "alpha"}, quiet()).Run)
	expect(t, r, want, n)
}

// TestRefusedOperationEndsTheTail: a journal that could not log an operation has no
// successor in its epoch.
func TestRefusedOperationEndsTheTail(t *testing.T) {
	for name, spoil := range map[string]func(j *Journal){
		"full":      func(j *Journal) { j.unstored.Store(j.cfg.MemoryMax) },
		"failed":    func(j *Journal) { j.fail(fmt.Errorf("%w: made up", ErrStore)) },
		"closed":    func(j *Journal) { j.end(ErrClosed) },
		"full tail": func(j *Journal) { j.tail.free = make([]bool, j.tail.count) },
	} {
		tl, err := NewTail(testEpoch, 32<<20, 1)
		if err != nil {
			t.Fatal(err)
		}
		j := openJournal(t, startServer(t, ServerConfig{}), JournalConfig{Tail: tl})
		spoil(j)
		if _, err := j.Put(write(1, 1)); err == nil {
			t.Fatalf("%s: an operation was taken", name)
		}
		if _, _, err := reopen(t, tl.data); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
