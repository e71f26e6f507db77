package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// renameArgs of the load that renames a directory and waits until that is visible.
type renameArgs struct {
	From, To               string
	ReplicaFrom, ReplicaTo string
}

type renameResult struct{ Call, Visible float64 } // milliseconds

func renameLoad(a renameArgs) (any, error) {
	begin := time.Now()
	if err := os.Rename(a.From, a.To); err != nil {
		return nil, err
	}
	r := renameResult{Call: milliseconds(begin)}
	err := until(time.Minute, func() bool { return fileSize(a.ReplicaTo) >= 0 && fileSize(a.ReplicaFrom) < 0 })
	r.Visible = milliseconds(begin)
	return r, err
}

// renamesPerRound makes a median of few milliseconds worth something.
const renamesPerRound = 5

// renameRow renames a directory of many files to and fro.
func renameRow(ctx context.Context, b *bench) (err error) {
	p, err := b.startPair(ctx, "rename")
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, p.stop()) }()
	tree := filepath.Join(b.dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	var made burstResult
	if err := child(ctx, "burst", burstArgs{Dir: tree + "/name0", Files: b.scale.burst}, &made); err != nil {
		return err
	}
	id, err := p.protect(ctx, tree, tree+".replica")
	if err != nil {
		return err
	}
	var visible, call, wire []float64
	for i := range b.scale.rounds * renamesPerRound {
		r, sent, err := renameOnce(ctx, p, id, tree, i)
		if err != nil {
			return err
		}
		visible, call, wire = append(visible, r.Visible), append(call, r.Call), append(wire, float64(sent))
	}
	if err := sameTree(tree, tree+".replica"); err != nil {
		return err
	}
	name := fmt.Sprintf("rename of a directory of %d, ", b.scale.burst)
	b.table.add(figure{name: name + "visible", value: median(visible), unit: "ms", reference: "the call " + short(median(call)) + " ms",
		ratio: median(visible) / median(call), bound: bound{must: 50}})
	b.table.add(figure{name: name + "on the wire", value: median(wire), unit: "B", bound: bound{must: 4096}})
	b.table.note("rename: visible %s ms", spread(visible))
	return nil
}

func renameOnce(ctx context.Context, p *pair, id int, tree string, i int) (r renameResult, sent int64, err error) {
	before, err := p.sentBytes(ctx, id)
	if err != nil {
		return r, 0, err
	}
	from, to := fmt.Sprintf("/name%d", i), fmt.Sprintf("/name%d", i+1)
	args := renameArgs{From: tree + from, To: tree + to, ReplicaFrom: tree + ".replica" + from, ReplicaTo: tree + ".replica" + to}
	if err := child(ctx, "rename", args, &r); err != nil {
		return r, 0, err
	}
	if err := p.settle(ctx, id); err != nil {
		return r, 0, err
	}
	after, err := p.sentBytes(ctx, id)
	return r, after - before, err
}
