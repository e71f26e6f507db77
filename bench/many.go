package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// manyArgs of the load that writes files into directories, all at the same time.
type manyArgs struct {
	Dirs  []string
	Bytes int64 // in all
	Tag   string
}

// manyFile is the size of one file.
const manyFile = 256 << 10

func manyLoad(a manyArgs) (any, error) {
	body := randomPool(manyFile)
	each := int(a.Bytes / manyFile / int64(len(a.Dirs)))
	errs := make([]error, len(a.Dirs))
	var wg sync.WaitGroup
	for i, dir := range a.Dirs {
		wg.Go(func() {
			for k := 0; k < each && errs[i] == nil; k++ {
				errs[i] = os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d", a.Tag, k)), body, 0o644)
			}
		})
	}
	wg.Wait()
	return each, errors.Join(errs...)
}

// manyRow compares what one connection takes with what many to the same target take
// together, and looks at the memory of the target.
func manyRow(ctx context.Context, b *bench) (err error) {
	p, err := b.startPair(ctx, "many")
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, p.stop()) }()
	var dirs []string
	var ids []int
	for i := range b.scale.connections {
		dir := filepath.Join(b.dir, fmt.Sprintf("set%d", i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		id, err := p.protect(ctx, dir, dir+".replica")
		if err != nil {
			return err
		}
		dirs, ids = append(dirs, dir), append(ids, id)
	}
	var one, many []float64
	for round := range b.scale.rounds {
		for _, n := range []int{1, b.scale.connections} {
			args := manyArgs{Dirs: dirs[:n], Bytes: b.scale.fileSize / 4, Tag: fmt.Sprintf("r%d-%d", round, n)}
			rate, err := p.writeAndSettle(ctx, args, ids[:n])
			if err != nil {
				return err
			}
			if n == 1 {
				one = append(one, rate)
			} else {
				many = append(many, rate)
			}
		}
	}
	peak, err := peakMemory(p.target.pid())
	if err != nil {
		return err
	}
	b.table.add(figure{name: fmt.Sprintf("%d connections together", b.scale.connections), value: median(many), unit: "MB/s",
		reference: "one connection " + short(median(one)) + " MB/s", ratio: median(many) / median(one), bound: bound{must: 0.8, atLeast: true, onRatio: true}})
	b.table.add(figure{name: fmt.Sprintf("%d connections, memory of the target", b.scale.connections), value: float64(peak) / (1 << 20), unit: "MiB", bound: bound{must: 1024}})
	return nil
}

// writeAndSettle is the rate, in MB/s, from the first write until all is applied.
func (p *pair) writeAndSettle(ctx context.Context, args manyArgs, ids []int) (float64, error) {
	began := time.Now()
	var each int
	if err := child(ctx, "many", args, &each); err != nil {
		return 0, err
	}
	for _, id := range ids {
		if err := p.settle(ctx, id); err != nil {
			return 0, err
		}
	}
	return float64(each) * float64(len(ids)) * manyFile / 1e6 / time.Since(began).Seconds(), nil
}
