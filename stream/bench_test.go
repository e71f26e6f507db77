package stream

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// drain takes operations up to n and confirms as a node would.
func drain(b *testing.B, p *pair, n int) {
	b.Helper()
	ctx := context.Background()
	for last := time.Now(); ; {
		f, i, err := p.r.Next(ctx)
		if err != nil {
			b.Error(err)
			return
		}
		done := int(f.Last()) >= n
		if done || time.Since(last) > 50*time.Millisecond {
			last = time.Now()
			p.j.Confirm(i, f.Last())
			p.r.Purge(i)
		}
		if done {
			return
		}
	}
}

// BenchmarkLatency is the time from Put to Next on an idle pair, over loopback.
func BenchmarkLatency(b *testing.B) {
	for _, size := range []int{256, 4 << 10, 128 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := newPair(b, JournalConfig{}, ReceiverConfig{})
			var took []time.Duration
			op, before := write(1, size), cpu(b)
			b.ResetTimer()
			for n := 1; b.Loop(); n++ {
				start := time.Now()
				if _, err := p.j.Put(op); err != nil {
					b.Fatal(err)
				}
				_, i, err := p.r.Next(context.Background())
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
				p.j.Confirm(i, op.Seq)
				p.r.Purge(i)
				time.Sleep(flushEvery) // idle again
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(len(took)), "cpu-µs/op")
		})
	}
}

// BenchmarkThroughput puts as fast as Pace lets it, both ends on this machine.
func BenchmarkThroughput(b *testing.B) {
	for _, size := range []int{256, 4 << 10, 128 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := newPair(b, JournalConfig{}, ReceiverConfig{})
			b.SetBytes(int64(size))
			op, before := write(1, size), cpu(b)
			b.ResetTimer()
			done := make(chan struct{})
			go func() { drain(b, p, b.N); close(done) }()
			for range b.N {
				if _, err := p.j.Put(op); err != nil {
					b.Fatal(err)
				}
				if d := p.j.Pace(); d > 0 {
					time.Sleep(d)
				}
			}
			<-done
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
			b.ReportMetric(float64(p.tx.Stats().FromDisk)/float64(max(1, p.tx.Stats().Frames)), "from-disk")
		})
	}
}

// BenchmarkSteadyRate puts 3000 operations a second, as an application creating files
// does: what one costs then, in frames and CPU.
func BenchmarkSteadyRate(b *testing.B) {
	p := newPair(b, JournalConfig{}, ReceiverConfig{})
	op, before := write(1, 4<<10), cpu(b)
	b.ResetTimer()
	done := make(chan struct{})
	go func() { drain(b, p, b.N); close(done) }()
	start := time.Now()
	for n := range b.N {
		if _, err := p.j.Put(op); err != nil {
			b.Fatal(err)
		}
		time.Sleep(time.Until(start.Add(time.Duration(n) * time.Second / 3000)))
	}
	<-done
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(b.N)/float64(p.j.Stats().Frames), "ops/frame")
}

// BenchmarkMirrorLane sends blocks of 256 KiB within the default credit.
func BenchmarkMirrorLane(b *testing.B) {
	p := newPair(b, JournalConfig{}, ReceiverConfig{})
	const size = 256 << 10
	b.SetBytes(size)
	op, before := block(1, size), cpu(b)
	b.ResetTimer()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			f, err := p.r.NextMirror(context.Background())
			if err != nil {
				b.Error(err)
				return
			}
			p.j.MirrorApplied(f.Last())
			if int(f.Last()) >= b.N {
				return
			}
		}
	}()
	for range b.N {
		if err := p.j.Credit(context.Background(), size); err != nil {
			b.Fatal(err)
		}
		if _, err := p.j.PutMirror(op); err != nil {
			b.Fatal(err)
		}
	}
	<-done
	b.ReportMetric((cpu(b)-before).Seconds()/(float64(b.N)*size/1e9), "cpu-s/GB")
}

// BenchmarkLatencyBesideMirror is BenchmarkLatency while a mirror uses all its credit.
func BenchmarkLatencyBesideMirror(b *testing.B) {
	p := newPair(b, JournalConfig{}, ReceiverConfig{})
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		for op := block(1, 256<<10); p.j.Credit(ctx, 256<<10) == nil; {
			if _, err := p.j.PutMirror(op); err != nil {
				b.Error(err)
			}
		}
	})
	work.Go(func() {
		for f, err := p.r.NextMirror(ctx); err == nil; f, err = p.r.NextMirror(ctx) {
			p.j.MirrorApplied(f.Last())
		}
	})
	var took []time.Duration
	op := write(1, 4<<10)
	for b.Loop() {
		start := time.Now()
		if _, err := p.j.Put(op); err != nil {
			b.Fatal(err)
		}
		if _, _, err := p.r.Next(ctx); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
		time.Sleep(flushEvery)
	}
	b.StopTimer()
	cancel()
	work.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(p.tx.Stats().MirrorBytes)/1e6/b.Elapsed().Seconds(), "mirror-MB/s")
}

// threadCPU is what the calling thread has used, whatever else the machine does.
func threadCPU(b *testing.B) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// BenchmarkPut is what the capture pays for one operation, without and with a tail that
// outlives the process.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{256, 4 << 10, 128 << 10} {
		for _, kept := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/tail=%v", size, kept), func(b *testing.B) {
				var cfg JournalConfig
				if kept {
					t, err := NewTail(testEpoch, 0, 1)
					if err != nil {
						b.Fatal(err)
					}
					cfg.Tail = t
				}
				j := openJournal(b, startServer(b, ServerConfig{Name: "alpha"}), cfg)
				goRun(b, j.Run)
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				var took time.Duration
				op := write(1, size)
				for n := uint64(1); b.Loop(); n++ {
					op.Token = n
					start := threadCPU(b)
					if _, err := j.Put(op); err != nil {
						b.Fatal(err)
					}
					took += threadCPU(b) - start
					if d := j.Pace(); d > 0 {
						time.Sleep(d)
					}
					if n%256 == 0 { // nobody sends it on: let go of what is stored
						j.mu.Lock()
						frame, seq := j.acked, j.ackedSeq
						j.mu.Unlock()
						j.Confirm(frame, seq)
					}
				}
				b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "put-cpu-ns")
			})
		}
	}
}
