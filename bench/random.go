package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// randomArgs of the load that writes 4 KiB at random places at a steady rate, each with
// fsync, as a database does.
type randomArgs struct {
	File    string
	Rate    int // a second
	Seconds int
}

type randomResult struct {
	Writes  int
	Bytes   int64
	Seconds float64
}

func randomLoad(a randomArgs) (any, error) {
	f, err := os.OpenFile(a.File, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	pool := randomPool(1 << 20)
	r := randomResult{}
	begin := time.Now()
	for i := range a.Rate * a.Seconds {
		if early := time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(a.Rate))); early > 0 {
			nap(early)
		}
		at := rand.IntN(len(pool) - 4096)
		if _, err := f.WriteAt(pool[at:at+4096], rand.Int64N(st.Size()/4096)*4096); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		r.Writes++
		r.Bytes += 4096
	}
	r.Seconds = time.Since(begin).Seconds()
	return r, nil
}

// lagEvery is how often the lag is asked for: not in step with the daemon's own
// sampling of 5 ms.
const lagEvery = 7 * time.Millisecond

// randomFigures are those of all rounds.
type randomFigures struct{ wire, lag50, lag99, after, cpu, rate []float64 }

// randomRow writes into one large protected file.
func randomRow(ctx context.Context, b *bench) (err error) {
	p, err := b.startPair(ctx, "random")
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, p.stop()) }()
	tree := filepath.Join(b.dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	if err := makeFile(tree+"/base", b.scale.fileSize); err != nil {
		return err
	}
	id, err := p.protect(ctx, tree, tree+".replica")
	if err != nil {
		return err
	}
	var f randomFigures
	for range b.scale.rounds {
		if err := f.round(ctx, p, id, randomArgs{File: tree + "/base", Rate: b.scale.writeRate, Seconds: b.scale.writeSecs}); err != nil {
			return err
		}
	}
	if err := sameTree(tree, tree+".replica"); err != nil {
		return err
	}
	name := fmt.Sprintf("random writes at %d/s with fsync, ", b.scale.writeRate)
	b.table.add(figure{name: name + "wire", value: median(f.wire), unit: "x written", bound: bound{must: 1.1}})
	b.table.add(figure{name: name + "lag p99", value: median(f.lag99), unit: "ms", bound: bound{must: 50}})
	b.table.add(figure{name: name + "lag p50", value: median(f.lag50), unit: "ms"})
	b.table.add(figure{name: name + "settled after the last", value: median(f.after), unit: "ms"})
	b.table.add(figure{name: name + "CPU of both daemons", value: median(f.cpu), unit: "s", reference: fmt.Sprintf("in %d s", b.scale.writeSecs)})
	b.table.note("random writes: rate reached %s/s, wire %s, lag p99 %s ms", spread(f.rate), spread(f.wire), spread(f.lag99))
	return nil
}

// round runs the load once while it asks for the lag.
func (f *randomFigures) round(ctx context.Context, p *pair, id int, args randomArgs) error {
	before, err := p.sentBytes(ctx, id)
	if err != nil {
		return err
	}
	cpuBefore, err := p.cpu()
	if err != nil {
		return err
	}
	var r randomResult
	done := make(chan error, 1)
	go func() { done <- child(ctx, "random", args, &r) }()
	lags, err := sampleLag(ctx, p, id, done)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := p.settle(ctx, id); err != nil {
		return err
	}
	f.after = append(f.after, milliseconds(begin))
	cpuAfter, err := p.cpu()
	if err != nil {
		return err
	}
	sent, err := p.sentBytes(ctx, id)
	f.cpu = append(f.cpu, cpuAfter-cpuBefore)
	f.wire = append(f.wire, float64(sent-before)/float64(r.Bytes))
	f.lag50, f.lag99 = append(f.lag50, quantile(lags, 0.5)), append(f.lag99, quantile(lags, 0.99))
	f.rate = append(f.rate, float64(r.Writes)/r.Seconds)
	return err
}

// sampleLag asks for the lag until the load is done.
func sampleLag(ctx context.Context, p *pair, id int, done <-chan error) ([]float64, error) {
	tick := time.NewTicker(lagEvery)
	defer tick.Stop()
	var lags []float64
	for {
		select {
		case err := <-done:
			return lags, err
		case <-tick.C:
			st, err := p.status(ctx, id)
			if err != nil {
				<-done
				return nil, err
			}
			lags = append(lags, st.LagMS)
		}
	}
}
