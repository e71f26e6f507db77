package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"understudy/control"
)

// verifyRow compares one large file and many small ones with their replica, by content and
// by attributes, and rsync does the same without sending anything.
func verifyRow(ctx context.Context, b *bench) error {
	tree, replica := filepath.Join(b.dir, "tree"), filepath.Join(b.dir, "tree.replica")
	if err := makeTree(tree, b.scale.mirrorFiles, 1024, 16384); err != nil {
		return err
	}
	if err := makeFile(tree+"/file", b.scale.mirrorBytes); err != nil {
		return err
	}
	f, err := b.verifyRounds(ctx, tree, replica)
	if err != nil {
		return err
	}
	peerSums, peerAttrs := make([]float64, b.scale.rounds), make([]float64, b.scale.rounds)
	for i := range b.scale.rounds { // the mount is gone: rsync reads the directory itself
		if peerSums[i], err = rsyncDry(ctx, tree, replica, "-nc"); err != nil {
			return err
		}
		if peerAttrs[i], err = rsyncDry(ctx, tree, replica, "-n"); err != nil {
			return err
		}
	}
	sums, attrs := f.sums, f.attrs
	name := fmt.Sprintf("verification of %d MiB and %d files, ", b.scale.mirrorBytes>>20, b.scale.mirrorFiles)
	b.table.add(figure{name: name + "checksum", value: median(sums), unit: "s", reference: "rsync -nc " + short(median(peerSums)) + " s",
		ratio: ratioOf(peerSums, sums), bound: bound{goal: 2, atLeast: true, onRatio: true}})
	b.table.add(figure{name: name + "attributes", value: median(attrs), unit: "s", reference: "rsync -n " + short(median(peerAttrs)) + " s",
		ratio: ratioOf(attrs, peerAttrs), bound: bound{goal: 1.2, onRatio: true}})
	b.table.note("%schecksum: ours %s s, rsync %s s; attributes: ours %s s, rsync %s s", name, spread(sums), spread(peerSums), spread(attrs), spread(peerAttrs))
	b.table.note("%sCPU of both daemons: checksum %s s, attributes %s s", name, spread(f.sumsCPU), spread(f.attrsCPU))
	return nil
}

// verifyFigures are seconds, of the clock and of the processors.
type verifyFigures struct{ sums, attrs, sumsCPU, attrsCPU []float64 }

// verifyRounds measures ours: from the request to the report.
func (b *bench) verifyRounds(ctx context.Context, tree, replica string) (f verifyFigures, err error) {
	p, err := b.startPair(ctx, "verify")
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	id, err := p.protect(ctx, tree, replica)
	if err != nil {
		return f, err
	}
	if err := syncDir(b.dir); err != nil {
		return f, err
	}
	for range b.scale.rounds {
		for _, content := range []bool{true, false} {
			before, err := p.cpu()
			if err != nil {
				return f, err
			}
			begin := time.Now()
			if err := p.verify(ctx, control.VerifyRequest{ID: id, Checksum: content}, b.scale.mirrorFiles+1); err != nil {
				return f, err
			}
			took := time.Since(begin).Seconds()
			after, err := p.cpu()
			if err != nil {
				return f, err
			}
			if content {
				f.sums, f.sumsCPU = append(f.sums, took), append(f.sumsCPU, after-before)
			} else {
				f.attrs, f.attrsCPU = append(f.attrs, took), append(f.attrsCPU, after-before)
			}
		}
	}
	return f, nil
}

// verify runs one verification to its end, which must have found that many files equal.
func (p *pair) verify(ctx context.Context, req control.VerifyRequest, files int) error {
	req.Action, req.WaitMS = "start", (30 * time.Second).Milliseconds()
	var rep control.VerifyReport
	for {
		if err := p.call(ctx, "verify", req, &rep); err != nil {
			return err
		}
		switch {
		case rep.State == "running":
			req.Action = "status"
		case !rep.Equal || rep.Totals.Files != uint64(files):
			return fmt.Errorf("verification: %s %s: %+v", rep.State, rep.Error, rep.Totals)
		default:
			return nil
		}
	}
}

// rsyncDry measures rsync, which must find nothing to send.
func rsyncDry(ctx context.Context, tree, replica, how string) (float64, error) {
	cmd := exec.CommandContext(ctx, "rsync", "-aHAX", how, "--out-format=%n", tree+"/", replica+"/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(begin).Seconds()
	if err == nil && len(out) > 0 {
		err = errors.New("it found differences")
	}
	if err != nil {
		return 0, fmt.Errorf("rsync %s: %w: %.200s", how, err, out)
	}
	return took, nil
}

// Scattered changes of the blocks row.
const (
	changedBlocks = 100
	changedBytes  = 4096
)

// blocksRow changes blocks of a large replica and has them put right by the source.
func blocksRow(ctx context.Context, b *bench) error {
	tree := filepath.Join(b.dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	if err := makeFile(tree+"/file", b.scale.mirrorBytes); err != nil {
		return err
	}
	ours, wire, err := b.blocksOurs(ctx, tree, tree+".replica")
	if err != nil {
		return err
	}
	theirs, err := b.blocksRsync(ctx, tree, tree+".replica")
	if err != nil {
		return err
	}
	name := fmt.Sprintf("difference mirror of %d MiB, %d blocks changed, ", b.scale.mirrorBytes>>20, changedBlocks)
	b.table.add(figure{name: name + "speed", value: median(ours), unit: "s", reference: "rsync --inplace " + short(median(theirs)) + " s",
		ratio: ratioOf(theirs, ours), bound: bound{goal: 1, atLeast: true, onRatio: true}})
	b.table.add(figure{name: name + "sent", value: median(wire) / 1024, unit: "KiB", reference: fmt.Sprintf("%d KiB changed", changedBlocks*changedBytes/1024),
		ratio: median(wire) / (changedBlocks * changedBytes), bound: bound{goal: 1.1, onRatio: true}})
	b.table.note("%sours %s s, rsync %s s", name, spread(ours), spread(theirs))
	return nil
}

// scatter changes blocks of a file and its date.
func scatter(path string, size int64, seed uint64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	rng := rand.New(rand.NewPCG(seed, 1))
	block := make([]byte, changedBytes)
	part := size / changedBlocks
	for i := range int64(changedBlocks) {
		for at := range block {
			block[at] = byte(rng.Uint32())
		}
		at := (i*part + rng.Int64N(part-2*changedBytes)) &^ (changedBytes - 1) // whole blocks of the file system
		if _, err := f.WriteAt(block, at); err != nil {
			return fmt.Errorf("change a replica: %w", err)
		}
	}
	return unix.Fsync(int(f.Fd()))
}

// blocksOurs measures from the request of the mirror to the answer that all is applied.
func (b *bench) blocksOurs(ctx context.Context, tree, replica string) (seconds, wire []float64, err error) {
	p, err := b.startPair(ctx, "blocks")
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	id, err := p.protect(ctx, tree, replica)
	if err != nil {
		return nil, nil, err
	}
	for round := range b.scale.rounds {
		if err := scatter(replica+"/file", b.scale.mirrorBytes, uint64(round)); err != nil {
			return nil, nil, err
		}
		before, err := p.sentBytes(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		begin := time.Now()
		if err := p.call(ctx, "mirror", control.MirrorRequest{ID: id, Action: "start", Mode: "diff", Checksum: true}, nil); err != nil {
			return nil, nil, err
		}
		if err := p.settle(ctx, id); err != nil {
			return nil, nil, err
		}
		seconds = append(seconds, time.Since(begin).Seconds())
		after, err := p.sentBytes(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		wire = append(wire, float64(after-before))
		if err := p.verify(ctx, control.VerifyRequest{ID: id, Checksum: true}, 1); err != nil {
			return nil, nil, err
		}
	}
	return seconds, wire, nil
}

// blocksRsync does the same with rsync and its daemon.
func (b *bench) blocksRsync(ctx context.Context, tree, replica string) (seconds []float64, err error) {
	d, err := startRsyncDaemon(ctx, b.dir, replica)
	if err != nil {
		return nil, err
	}
	defer d.stop()
	for round := range b.scale.rounds {
		if err := scatter(replica+"/file", b.scale.mirrorBytes, uint64(round)); err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, "rsync", "-a", "-I", "--inplace", "--no-whole-file", tree+"/", d.url)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		begin := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("rsync: %w: %s", err, out)
		}
		seconds = append(seconds, time.Since(begin).Seconds())
		if err := sameFile(tree+"/file", replica+"/file"); err != nil {
			return nil, err
		}
	}
	return seconds, nil
}
