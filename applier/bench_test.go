package applier

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

func cpuTime() time.Duration {
	var ru unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// measure applies what is in s and reports time and processor time for each of n things.
func measure(b *testing.B, n int, fill func(s *script)) {
	for range b.N {
		b.StopTimer()
		s := newScript(b, 1, 1024)
		s.add(fileop.Op{Kind: fileop.Gap})
		fill(s)
		s.send()
		cfg := testConfig(b, b.TempDir())
		cpu, start := cpuTime(), time.Now()
		b.StartTimer()
		r := startRig(b, cfg, s)
		r.await(s.q.Next()-1, s.m.Next()-1)
		took, used := time.Since(start), cpuTime()-cpu
		b.StopTimer()
		b.ReportMetric(float64(took.Microseconds())/float64(n), "us/file")
		b.ReportMetric(float64(used.Microseconds())/float64(n), "cpu-us/file")
		if err := r.stop(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(n), "cpu-us-all/file")
	}
}

func BenchmarkCreate10000(b *testing.B) {
	data := make([]byte, 4096)
	measure(b, 10000, func(s *script) {
		for i := range 10000 {
			o := id(uint64(100 + i))
			s.add(
				fileop.Op{Kind: fileop.Create, Obj: o, Parent: rootID, Name: fmt.Sprintf("file-%d", i), Attr: fileAttr(0o644, 1), PMtime: at(2)},
				fileop.Op{Kind: fileop.Write, Obj: o, Data: data, Mtime: at(3)},
				fileop.Op{Kind: fileop.SetAttr, Obj: o, Attr: fileAttr(0o644, 3)})
		}
	})
}

func BenchmarkMirror50000(b *testing.B) {
	data := make([]byte, 16<<10)
	measure(b, 50000, func(s *script) {
		s.add(fileop.Op{Kind: fileop.MirrorBegin, Len: 1})
		for d := range 50 {
			dir := id(uint64(100 + d))
			s.add(fileop.Op{Kind: fileop.MirrorEntry, Obj: dir, Parent: rootID, Name: fmt.Sprintf("dir-%d", d), Attr: dirAttr(0o755, 1)})
			var names []string
			for i := range 1000 {
				name := fmt.Sprintf("file-%d", i)
				names = append(names, name)
				size := 1<<10 + (i*7919)%(15<<10)
				s.add(fileop.Op{Kind: fileop.MirrorEntry, Flags: fileop.FlagWhole, Obj: id(uint64(1000 + d*1000 + i)), Parent: dir, Name: name,
					Attr: fileAttr(0o644, 2), Data: data[:size], Len: int64(size), Nlink: 1})
			}
			s.add(fileop.Op{Kind: fileop.MirrorDir, Obj: dir, Names: names},
				fileop.Op{Kind: fileop.MirrorDirEnd, Obj: dir, Attr: dirAttr(0o755, 1)})
		}
		s.add(fileop.Op{Kind: fileop.MirrorEnd, Len: 1})
	})
}
