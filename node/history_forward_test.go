package node

import (
	"fmt"
	"testing"

	"understudy/fileop"
	"understudy/history"
)

// TestRestartReadsNoFurtherThanTheBase (G91): what a restart reads again for a base ends where
// the base was to be brought to. It would take all that is logged for applied after a power
// cut, and no moment up to its end could be rebuilt.
func TestRestartReadsNoFurtherThanTheBase(t *testing.T) {
	const epoch = 7
	l, err := history.Create(t.TempDir(), history.Start{Epoch: epoch, Whole: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := fileop.NewBuilder(fileop.LaneQueue, epoch, 1, 0)
	rec := fileop.AppendRecord(nil, &fileop.Op{Kind: fileop.Barrier, Path: "x"})
	for i := range uint64(4) {
		for range 3 {
			b.Add(rec, 0)
		}
		_, _, raw := b.Finish()
		f, err := fileop.ParseFrame(raw)
		if err == nil {
			err = l.Append(&f, i+1)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	epochs, err := l.Epochs(epoch)
	if err != nil {
		t.Fatal(err)
	}
	for last := fileop.Seq(4); last <= 12; last++ {
		lane := l.Lane(epochs[0], true, fileop.LaneQueue, 3, last)
		var got []fileop.Seq
		for f, err := range frames(lane, last) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, f.First, f.Last())
		}
		lane.Close()
		want := []fileop.Seq{}
		for first := fileop.Seq(4); first <= last; first += 3 {
			want = append(want, first, min(first+2, last))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("up to %d: %v, want %v", last, got, want)
		}
	}
}
