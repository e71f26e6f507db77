package mirror

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/capture/lower"
	"understudy/fileop"
)

// sink encodes records as a journal does and forgets them.
type sink struct {
	mu  sync.Mutex
	n   fileop.Seq
	buf []byte
}

func (s *sink) Put(o *fileop.Op) (fileop.Seq, error) { return s.PutMirror(o) }
func (s *sink) PutMirror(o *fileop.Op) (fileop.Seq, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	s.buf = fileop.AppendRecord(s.buf[:0], o)
	return s.n, nil
}
func (s *sink) Credit(ctx context.Context, n int) error { return nil }

func benchTree(b *testing.B, make func(dir string)) *Mirror {
	dir := b.TempDir()
	make(dir)
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		b.Fatal(err)
	}
	l := &locks{of: map[fileop.ObjID]*sync.Mutex{}, shifts: map[fileop.ObjID]uint64{}}
	tree := lower.New(fd, l)
	unix.Close(fd)
	b.Cleanup(func() { tree.Close() })
	return New(Config{Roots: []Root{{Tree: lowerTree{tree}, TreePath: dir, Dir: dir}}, Rules: all{dir}, Log: &sink{}}, nil)
}

// BenchmarkSmallFiles reads 50,000 files of 1 to 16 KiB from the cache.
func BenchmarkSmallFiles(b *testing.B) {
	m := benchTree(b, func(dir string) {
		for i := range 500 {
			d := filepath.Join(dir, fmt.Sprint("d", i))
			_ = os.Mkdir(d, 0o755)
			for j := range 100 {
				_ = os.WriteFile(filepath.Join(d, fmt.Sprint("f", j)), bytes.Repeat([]byte{1}, 1024*(1+j%16)), 0o644)
			}
		}
	})
	for b.Loop() {
		if err := m.Run(context.Background(), Options{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(50000*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}

// BenchmarkLargeFile reads a file of 512 MiB from the cache.
func BenchmarkLargeFile(b *testing.B) {
	m := benchTree(b, func(dir string) {
		f, _ := os.Create(filepath.Join(dir, "large"))
		defer f.Close()
		for range 512 {
			_, _ = f.Write(bytes.Repeat([]byte{1}, 1<<20))
		}
	})
	b.SetBytes(512 << 20)
	for b.Loop() {
		if err := m.Run(context.Background(), Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
