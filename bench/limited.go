package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"understudy/control"
)

// linkRate is the bandwidth limit of the row, in bytes a second.
const linkRate = 50_000_000

// limitedRow measures small changes of one set while the mirror of another drains over
// the same limited link.
func limitedRow(ctx context.Context, b *bench) (err error) {
	p, err := b.startPair(ctx, "limited")
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, p.stop()) }()
	small, large := filepath.Join(b.dir, "small"), filepath.Join(b.dir, "large")
	if err := makeTree(small, b.scale.smallTree, 1024, 16384); err != nil {
		return err
	}
	if err := os.Mkdir(large, 0o755); err != nil {
		return err
	}
	if err := makeFile(filepath.Join(large, "file"), b.scale.fileSize); err != nil {
		return err
	}
	if _, err := p.protect(ctx, small, small+".replica"); err != nil {
		return err
	}
	if err := p.mount(ctx, large); err != nil {
		return err
	}
	limit := control.LimitRequest{Target: p.target.name, Bytes: linkRate / 10, PeriodMS: 100}
	if err := p.call(ctx, "limit", limit, nil); err != nil {
		return err
	}
	all, err := p.besideMirror(ctx, b, small, large)
	if err != nil {
		return err
	}
	b.table.add(figure{name: fmt.Sprintf("small change beside a mirror at %d MB/s, p50", linkRate/1_000_000), value: quantile(all, 0.5), unit: "ms"})
	b.table.add(figure{name: fmt.Sprintf("small change beside a mirror at %d MB/s, p99", linkRate/1_000_000), value: quantile(all, 0.99), unit: "ms",
		bound: bound{must: 300}})
	return nil
}

// besideMirror begins the mirror and measures until it is over, in milliseconds.
func (p *pair) besideMirror(ctx context.Context, b *bench, small, large string) (all []float64, err error) {
	var reply control.ConnectReply
	err = p.call(ctx, "connect", control.ConnectRequest{Set: "large", Rules: []string{fmt.Sprintf("%q inc, rec", large)},
		Target: p.target.name, Address: p.address, Map: map[string]string{large: large + ".replica"}, Capture: "stacked"}, &reply)
	if err != nil {
		return nil, err
	}
	for round := 0; ; round++ {
		args := latencyArgs{Source: filepath.Join(small, "d0"), Replica: filepath.Join(small+".replica", "d0"), Samples: 5, Tag: fmt.Sprint(round)}
		var out map[string][]float64
		if err := child(ctx, "latency", args, &out); err != nil {
			return nil, err
		}
		c, err := p.status(ctx, reply.ID)
		if err != nil {
			return nil, err
		}
		if c.Mirror != "Mirroring" { // part of this round had the link to itself
			break
		}
		for _, ms := range out {
			all = append(all, ms...)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the mirror was over before anything was measured")
	}
	slices.Sort(all)
	return all, nil
}
