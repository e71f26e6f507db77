package testnode

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// clockTick is the unit of times in /proc/PID/stat on Linux, whatever the kernel's own.
const clockTick = 10 * time.Millisecond

// Memory is what the daemon has resident, in bytes.
func (d *Daemon) Memory() int64 {
	d.t.Helper()
	raw := d.proc("statm")
	fields := strings.Fields(raw)
	if len(fields) < 2 {
		d.t.Fatalf("memory of %s: %q", d.name, raw)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		d.t.Fatalf("memory of %s: %v", d.name, err)
	}
	return pages * int64(os.Getpagesize())
}

// CPU is the processor time the daemon took so far.
func (d *Daemon) CPU() time.Duration {
	d.t.Helper()
	raw := d.proc("stat")
	_, rest, ok := strings.Cut(raw, ") ") // its name may hold blanks
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		d.t.Fatalf("processor time of %s: %q", d.name, raw)
	}
	var ticks int64
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			d.t.Fatalf("processor time of %s: %v", d.name, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick
}

func (d *Daemon) proc(file string) string {
	d.t.Helper()
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(d.PID()), file))
	if err != nil {
		d.t.Fatalf("look at %s: %v", d.name, err)
	}
	return string(bytes.TrimSpace(raw))
}

// DiskUse is what the files below dir take on disk, in bytes. Files that vanish meanwhile
// are left out.
func DiskUse(t testing.TB, dir string) (total int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(path, &st) == nil {
			total += st.Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Fatal(fmt.Errorf("disk use of %s: %w", dir, err))
	}
	return total
}
