package lower

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func benchTree(b *testing.B) (*Dir, []string) {
	root := b.TempDir()
	for i := range 1000 {
		if err := os.WriteFile(fmt.Sprintf("%s/f%04d", root, i), make([]byte, 4096), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	d := rootDir(b, openTree(b, root, nil))
	names, err := d.Names()
	must(b, err)
	return d, names
}

// One small file as the mirror reads it: entry, attributes and content.
func BenchmarkOpenEntry(b *testing.B) {
	d, names := benchTree(b)
	buf := make([]byte, 16<<10)
	for i := 0; b.Loop(); i++ {
		_, f, err := d.OpenEntry(names[i%len(names)])
		must(b, err)
		f.ReadAt(buf[:4096], 0)
		f.Close()
	}
}

func BenchmarkEntryThenFile(b *testing.B) {
	d, names := benchTree(b)
	buf := make([]byte, 16<<10)
	for i := 0; b.Loop(); i++ {
		e, err := d.Entry(names[i%len(names)])
		must(b, err)
		f, err := d.t.File(e)
		must(b, err)
		f.ReadAt(buf[:4096], 0)
		f.Close()
	}
}

// What it would cost with a plain open in place of O_PATH and /proc: the measure of
// never opening a fifo.
func BenchmarkPlainOpen(b *testing.B) {
	d, names := benchTree(b)
	buf := make([]byte, 16<<10)
	for i := 0; b.Loop(); i++ {
		var st unix.Stat_t
		name := names[i%len(names)]
		must(b, unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW))
		fd, err := openFlags(d.fd, name, unix.O_RDONLY|unix.O_NONBLOCK)
		must(b, err)
		_, err = d.t.stat(fd, "", name)
		must(b, err)
		_, err = xattrs(fd)
		must(b, err)
		unix.Pread(fd, buf[:4096], 0)
		unix.Close(fd)
	}
}

func BenchmarkNames(b *testing.B) {
	d, _ := benchTree(b)
	for b.Loop() {
		_, err := d.Names()
		must(b, err)
	}
}
