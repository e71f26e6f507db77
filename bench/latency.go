package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// latencyArgs of the load that changes one small thing and waits until it is visible.
type latencyArgs struct {
	Source, Replica string
	Samples         int
	Tag             string // of the names of this round
}

var latencyOps = []string{"create", "append", "rename", "delete"}

// latencyLoad gives milliseconds from just before each change to its visibility, by
// operation. The link is idle before each.
func latencyLoad(a latencyArgs) (any, error) {
	out := map[string][]float64{}
	body := make([]byte, 4096)
	for i := range a.Samples {
		name, other := fmt.Sprintf("new-%s-%d", a.Tag, i), fmt.Sprintf("old-%s-%d", a.Tag, i)
		src, dst := filepath.Join(a.Source, name), filepath.Join(a.Replica, name)
		src2, dst2 := filepath.Join(a.Source, other), filepath.Join(a.Replica, other)
		steps := []struct {
			do      func() error
			visible func() bool
		}{
			{func() error { return os.WriteFile(src, body, 0o644) }, func() bool { return fileSize(dst) == 4096 }},
			{func() error { return appendTo(src, body) }, func() bool { return fileSize(dst) == 8192 }},
			{func() error { return os.Rename(src, src2) }, func() bool { return fileSize(dst2) == 8192 && fileSize(dst) < 0 }},
			{func() error { return os.Remove(src2) }, func() bool { return fileSize(dst2) < 0 }},
		}
		for k, s := range steps {
			nap(5*time.Millisecond + rand.N(10*time.Millisecond)) // the link falls idle
			begin := time.Now()
			err := s.do()
			if err == nil {
				err = until(30*time.Second, s.visible)
			}
			if err != nil {
				return nil, fmt.Errorf("%s of %s: %w", latencyOps[k], src, err)
			}
			out[latencyOps[k]] = append(out[latencyOps[k]], milliseconds(begin))
		}
	}
	return out, nil
}

func appendTo(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// percentiles of one operation, one entry a round.
type percentiles struct{ p50, p99 []float64 }

func (p *percentiles) add(ms []float64) {
	p.p50 = append(p.p50, quantile(ms, 0.5))
	p.p99 = append(p.p99, quantile(ms, 0.99))
}

// latencies by operation.
type latencies map[string]*percentiles

func newLatencies() latencies {
	l := latencies{}
	for _, op := range latencyOps {
		l[op] = &percentiles{}
	}
	return l
}

// latencyRow protects a small and a large tree and measures them in turn, and lsyncd
// with the small one.
func latencyRow(ctx context.Context, b *bench) (err error) {
	p, err := b.startPair(ctx, "latency")
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, p.stop()) }()
	trees := []string{filepath.Join(b.dir, "small"), filepath.Join(b.dir, "large")}
	for i, files := range []int{b.scale.smallTree, b.scale.largeTree} {
		if err := makeTree(trees[i], files, 1024, 16384); err != nil {
			return err
		}
		if _, err := p.protect(ctx, trees[i], trees[i]+".replica"); err != nil {
			return err
		}
	}
	peer, err := b.startLsyncd(ctx, "latency")
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, peer.stop()) }()
	ours, theirs := []latencies{newLatencies(), newLatencies()}, newLatencies()
	for round := range b.scale.rounds {
		for i, tree := range trees {
			args := latencyArgs{Source: tree + "/d0", Replica: tree + ".replica/d0", Samples: b.scale.samples, Tag: fmt.Sprint(round)}
			if err := ours[i].measure(ctx, args); err != nil {
				return err
			}
		}
		args := latencyArgs{Source: peer.source, Replica: peer.replica, Samples: b.scale.lsyncdSamples, Tag: fmt.Sprint(round)}
		if err := theirs.measure(ctx, args); err != nil {
			b.table.note("latency: lsyncd: %v", err)
		}
	}
	b.reportLatency(ours, theirs)
	return nil
}

func (l latencies) measure(ctx context.Context, args latencyArgs) error {
	var out map[string][]float64
	if err := child(ctx, "latency", args, &out); err != nil {
		return err
	}
	for op, ms := range out {
		l[op].add(ms)
	}
	return nil
}

func (b *bench) reportLatency(ours []latencies, theirs latencies) {
	sizes := []int{b.scale.smallTree, b.scale.largeTree}
	for _, op := range latencyOps {
		for i, l := range ours {
			peer50, peer99 := median(theirs[op].p50), median(theirs[op].p99)
			name := fmt.Sprintf("latency %s, %d files, ", op, sizes[i])
			b.table.add(figure{name: name + "p50", value: median(l[op].p50), unit: "ms", bound: bound{must: 5, goal: 2},
				reference: "lsyncd " + short(peer50) + " ms", ratio: median(l[op].p50) / peer50})
			b.table.add(figure{name: name + "p99", value: median(l[op].p99), unit: "ms", bound: bound{must: 20, goal: 10},
				reference: "lsyncd " + short(peer99) + " ms", ratio: median(l[op].p99) / peer99})
		}
		small, large := median(ours[0][op].p50), median(ours[1][op].p50)
		b.table.add(figure{name: fmt.Sprintf("latency %s, large tree, p50", op), value: large, unit: "ms",
			reference: "small tree " + short(small) + " ms", ratio: large / small, bound: bound{must: 1.2, onRatio: true}})
	}
}
