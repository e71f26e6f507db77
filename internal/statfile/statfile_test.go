package statfile

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func read(t *testing.T, path string) (out []string, damaged int) {
	t.Helper()
	records, bad, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	for r := range records {
		out = append(out, string(r))
	}
	return out, *bad
}

// TestSizeIsBounded: whatever is written, the newest records are there and the files keep
// their size.
func TestSizeIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sts")
	const most = 8 << 10
	for i := range 300 {
		batch := [][]byte{}
		for k := range 1 + i%5 {
			batch = append(batch, fmt.Appendf(nil, `{"n":%d,"k":%d}`, i, k))
		}
		if err := Append(path, batch, most); err != nil {
			t.Fatal(err)
		}
		total := int64(0)
		for _, name := range []string{path, path + ".1"} {
			if st, err := os.Stat(name); err == nil {
				total += st.Size()
			}
		}
		if total > most {
			t.Fatalf("%d bytes", total)
		}
	}
	got, damaged := read(t, path)
	if damaged != 0 || len(got) < most/2/30 || got[len(got)-1] != `{"n":299,"k":4}` {
		t.Errorf("%d records, %d damaged, last %s", len(got), damaged, got[len(got)-1])
	}
}

// TestDamageIsLeftOut: every damage costs its own line.
func TestDamageIsLeftOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sts")
	if err := Append(path, [][]byte{[]byte(`{"a":1}`), []byte(`{"a":2}`), []byte(`{"a":3}`)}, 1<<20); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line := len(whole) / 3
	for name, c := range map[string]struct {
		raw  []byte
		want int
	}{
		"flipped": {append(append([]byte{}, whole[:line+12]...), append([]byte{'x'}, whole[line+13:]...)...), 2},
		"torn":    {whole[:len(whole)-3], 2}, "empty": {nil, 0}, "nonsense": {[]byte("hello\n\n\xff"), 0}, "whole": {whole, 3},
		"no end": {make([]byte, 2*maxRecord), 0},
	} {
		if err := os.WriteFile(path, c.raw, 0o600); err != nil {
			t.Fatal(err)
		}
		got, damaged := read(t, path)
		if len(got) != c.want || c.want == 2 && damaged != 1 {
			t.Errorf("%s: %d records, %d damaged", name, len(got), damaged)
		}
	}
	if err := SetAside(path, path+"-old"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(path); err == nil {
		t.Error("a file that is not there is read")
	}
	if err := SetAside(path, ""); err != nil {
		t.Fatal(err)
	}
}
