package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"understudy/control"
)

// replayRow compares how fast the past of a replica is rebuilt with how fast the same
// operations were applied when they came, from the target's queue.
func replayRow(ctx context.Context, b *bench) (err error) {
	p, err := b.startPair(ctx, "replay")
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, p.stop()) }()
	dir := filepath.Join(b.dir, "set")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := p.mount(ctx, dir); err != nil {
		return err
	}
	var reply control.ConnectReply
	if err := p.call(ctx, "connect", control.ConnectRequest{Set: "set", Rules: []string{fmt.Sprintf("%q inc, rec", dir)}, Target: p.target.name,
		Address: p.address, Map: map[string]string{dir: dir + ".replica"}, Capture: "stacked", History: "72h"}, &reply); err != nil {
		return err
	}
	if err := p.settle(ctx, reply.ID); err != nil {
		return err
	}
	if err := p.keeps(ctx); err != nil {
		return err
	}
	apply, replay, bytes := make([]float64, b.scale.rounds), make([]float64, b.scale.rounds), int64(0)
	for i := range b.scale.rounds {
		args := manyArgs{Dirs: []string{dir}, Bytes: b.scale.fileSize / 2, Tag: fmt.Sprint(i)}
		seconds, err := p.applyPaused(ctx, reply.ID, args)
		if err != nil {
			return err
		}
		bytes += args.Bytes
		apply[i] = float64(args.Bytes) / 1e6 / seconds
		if seconds, err = p.replayAll(ctx, fmt.Sprintf("%s.rebuilt%d", dir, i)); err != nil {
			return err
		}
		replay[i] = float64(bytes) / 1e6 / seconds // each replay is of all rounds so far
	}
	f := figure{name: "replay of the history", value: median(replay), unit: "MB/s", reference: "applying the queue " + short(median(apply)) + " MB/s",
		ratio: ratioOf(replay, apply), bound: bound{goal: 2, atLeast: true, onRatio: true}}
	if f.value >= replayGoal {
		f.bound = bound{goal: replayGoal, atLeast: true}
	}
	b.table.add(f)
	b.table.note("replay: rebuilt at %s MB/s, applied at %s MB/s; %d MB/s are as good as twice the speed of applying", spread(replay), spread(apply), replayGoal)
	return nil
}

// replayGoal, in MB/s, is enough whatever the ratio to applying.
const replayGoal = 200

// keeps waits until the target keeps what it applies.
func (p *pair) keeps(ctx context.Context) error {
	for {
		var list control.HistoryList
		if err := p.target.ctl.Call(ctx, "history", control.HistoryRequest{}, &list); err != nil {
			return fmt.Errorf("history: %w", err)
		}
		if len(list.Histories) == 1 && list.Histories[0].Active {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("no history is kept: %w", context.Cause(ctx))
		}
		nap(10 * time.Millisecond)
	}
}

// applyPaused has a load done while the target is paused, and is how many seconds it then
// takes to apply what it received.
func (p *pair) applyPaused(ctx context.Context, id int, args manyArgs) (float64, error) {
	before, err := p.sentBytes(ctx, id)
	if err != nil {
		return 0, err
	}
	if err := p.target.ctl.Call(ctx, "target", control.PauseRequest{Pause: true}, nil); err != nil {
		return 0, fmt.Errorf("pause: %w", err)
	}
	var each int
	if err := child(ctx, "many", args, &each); err != nil {
		return 0, err
	}
	for sent := before; sent < before+args.Bytes; { // random content: it does not get smaller on the way
		if sent, err = p.sentBytes(ctx, id); err != nil {
			return 0, err
		}
		nap(10 * time.Millisecond)
	}
	began := time.Now()
	if err := p.target.ctl.Call(ctx, "target", control.PauseRequest{}, nil); err != nil {
		return 0, fmt.Errorf("resume: %w", err)
	}
	err = p.settle(ctx, id)
	return time.Since(began).Seconds(), err
}

// replayAll rebuilds everything up to the last operation kept, into a new directory.
func (p *pair) replayAll(ctx context.Context, to string) (seconds float64, err error) {
	var rep control.Replay
	if err := p.target.ctl.Call(ctx, "replay", control.ReplayRequest{Action: "start", To: to}, &rep); err != nil {
		return 0, fmt.Errorf("replay: %w", err)
	}
	for rep.State == "copying" || rep.State == "applying" {
		if err := p.target.ctl.Call(ctx, "replay", control.ReplayRequest{Action: "status", ID: rep.ID, WaitMS: 5000}, &rep); err != nil {
			return 0, fmt.Errorf("replay: %w", err)
		}
	}
	if rep.State != "done" {
		return 0, fmt.Errorf("replay %s: %s", rep.State, rep.Error)
	}
	return rep.Seconds, nil
}
