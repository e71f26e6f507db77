package event

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// next reads and gives the numbers of the rows.
func next(t *testing.T, f *Files) (seqs []uint64, damaged int) {
	t.Helper()
	rows, damaged, err := f.Next()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range rows {
		seqs = append(seqs, e.Seq)
	}
	return seqs, damaged
}

// TestFilesFollow: each row of a journal that is written is read once, over new files and
// half written rows; damaged ones are counted.
func TestFilesFollow(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := mustFiles(t, dir).Next(); !errors.Is(err, ErrNoJournal) {
		t.Errorf("an empty directory: %v", err)
	}
	l, err := Open(Config{Dir: dir, FileBytes: 2000, Files: 3})
	if err != nil {
		t.Fatal(err)
	}
	f, want := mustFiles(t, dir), uint64(0)
	for i := range 30 {
		for range i % 4 {
			l.Raise(AutoDisconnected, About{Set: string(rune('a' + i))}, want)
			want++
		}
		seqs, damaged := next(t, f)
		if damaged > 0 || len(seqs) != i%4 || len(seqs) > 0 && seqs[len(seqs)-1] != want {
			t.Fatalf("round %d: rows %v, %d damaged, want %d up to %d", i, seqs, damaged, i%4, want)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if len(f.read) > 3 {
		t.Errorf("%d files are remembered", len(f.read))
	}
}

func mustFiles(t *testing.T, path string) *Files {
	t.Helper()
	f, err := OpenFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestFilesOfOneFile: half a row is read when it is whole; what is no journal says so.
func TestFilesOfOneFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "copy")
	var whole []byte
	for i := range 3 {
		row, err := encodeRow(Event{Seq: uint64(i + 1), ID: 4000, Text: "x"})
		if err != nil {
			t.Fatal(err)
		}
		whole = append(whole, row...)
	}
	write := func(b []byte) {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cut := len(whole) - 10
	write(whole[:cut])
	f := mustFiles(t, name)
	if seqs, damaged := next(t, f); len(seqs) != 2 || damaged != 0 {
		t.Errorf("rows %v, %d damaged", seqs, damaged)
	}
	write(append(whole, "rubbish\n"...))
	if seqs, damaged := next(t, f); len(seqs) != 1 || seqs[0] != 3 || damaged != 1 {
		t.Errorf("rows %v, %d damaged", seqs, damaged)
	}
	write(whole[:len(whole)/3]) // begun anew
	if seqs, _ := next(t, f); len(seqs) != 1 || seqs[0] != 1 {
		t.Errorf("rows %v", seqs)
	}
	write([]byte("this is\nno journal\n"))
	if _, damaged, err := mustFiles(t, name).Next(); !errors.Is(err, ErrNoJournal) || damaged != 2 {
		t.Errorf("%d damaged, %v", damaged, err)
	}
	if _, err := OpenFiles(name + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := OpenFiles("/dev/zero"); !errors.Is(err, ErrNoJournal) {
		t.Error(err)
	}
}
