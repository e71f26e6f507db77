package idlog

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"understudy/fileop"
)

func ids(from, n uint64) (out []fileop.ObjID) {
	for i := range n {
		out = append(out, fileop.ObjID{Ino: from + i, Gen: ^(from + i)})
	}
	return out
}

// What was appended is read again, from any whole number of batches; a batch that was cut
// short or damaged ends the list, a damaged head is an error, nothing panics.
func TestReadsWhatIsWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	head := Head{1, 2, 3, 4}
	want := []Batch{{Marks: [2]uint64{5, 6}, IDs: ids(1, 3)}, {All: true}, {IDs: ids(100, 1)}}
	f, err := Create(path, head, want[0])
	must(t, err)
	for _, b := range want[1:] {
		must(t, f.Append(b))
	}
	must(t, f.Sync())
	must(t, f.Close())
	h, got, err := Read(path)
	must(t, err)
	if h != head || !reflect.DeepEqual(got, want) {
		t.Fatalf("read %v %+v", h, got)
	}
	raw, err := os.ReadFile(path)
	must(t, err)
	for cut := range raw {
		_, got, err := parse(raw[:cut])
		if cut < headSize != (err != nil) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if len(got) > 0 && !reflect.DeepEqual(got, want[:len(got)]) {
			t.Fatalf("cut at %d: %+v", cut, got)
		}
	}
	for i := range raw {
		flipped := append([]byte(nil), raw...)
		flipped[i] ^= 0x10
		if _, got, err := parse(flipped); err == nil && len(got) == len(want) {
			t.Fatalf("flipped byte %d was not noticed", i)
		}
	}
}

func TestLargeBatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	want := ids(7, 2*maxBatch+5)
	f, err := Create(path, Head{}, Batch{IDs: want})
	must(t, err)
	must(t, f.Close())
	_, got, err := Read(path)
	must(t, err)
	var all []fileop.ObjID
	for _, b := range got {
		all = append(all, b.IDs...)
	}
	if !reflect.DeepEqual(all, want) {
		t.Fatalf("%d of %d read", len(all), len(want))
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(_ *testing.T, b []byte) { _, _, _ = parse(b) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
