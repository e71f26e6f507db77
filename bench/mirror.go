package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// mirrorRun is one initial copy.
type mirrorRun struct {
	seconds, cpu float64
	memory       [2]float64 // peak of source and target, MiB
}

// mirrorFigures are those of all rounds.
type mirrorFigures struct {
	seconds, cpu, source, target []float64
	peer, peerCPU                []float64
}

// largeRow mirrors one file that does not compress.
func largeRow(ctx context.Context, b *bench) error {
	tree := filepath.Join(b.dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	if err := makeFile(tree+"/file", b.scale.mirrorBytes); err != nil {
		return err
	}
	f, err := b.mirrorRounds(ctx, mirrorWork{"large", tree, []string{"--whole-file"}, true})
	if err != nil {
		return err
	}
	b.reportMirror(fmt.Sprintf("mirror of one file of %d MiB, ", b.scale.mirrorBytes>>20), f, float64(b.scale.mirrorBytes)/1e9, 0.5)
	return nil
}

// smallRow mirrors many small files.
func smallRow(ctx context.Context, b *bench) error {
	tree := filepath.Join(b.dir, "tree")
	if err := makeTree(tree, b.scale.mirrorFiles, 1024, 16384); err != nil {
		return err
	}
	f, err := b.mirrorRounds(ctx, mirrorWork{"small", tree, nil, false})
	if err != nil {
		return err
	}
	b.reportMirror(fmt.Sprintf("mirror of %d small files, ", b.scale.mirrorFiles), f, float64(b.scale.mirrorFiles)*8.5*1024/1e9, 0.7)
	return nil
}

// mirrorWork is what a row mirrors.
type mirrorWork struct {
	row, tree    string
	rsyncOptions []string
	discard      bool // remove each replica at once: large files, few inodes (see runRow)
}

// mirrorRounds copies the tree with ours and with rsync in turn, each to a new place by
// new processes; who is first alternates.
func (b *bench) mirrorRounds(ctx context.Context, w mirrorWork) (*mirrorFigures, error) {
	f := &mirrorFigures{}
	ours := func(replica string) error {
		r, err := b.mirrorOnce(ctx, w.row, w.tree, replica)
		f.seconds, f.cpu = append(f.seconds, r.seconds), append(f.cpu, r.cpu)
		f.source, f.target = append(f.source, r.memory[0]), append(f.target, r.memory[1])
		return err
	}
	theirs := func(replica string) error {
		r, err := b.rsyncOnce(ctx, w.tree, replica, w.rsyncOptions)
		f.peer, f.peerCPU = append(f.peer, r.seconds), append(f.peerCPU, r.cpu)
		return err
	}
	for round := range b.scale.rounds {
		order := []func(string) error{ours, theirs}
		if round%2 == 1 {
			order[0], order[1] = order[1], order[0]
		}
		for i, copyTo := range order {
			replica := fmt.Sprintf("%s.replica%d-%d", w.tree, round, i)
			if err := b.copyOnce(w, replica, copyTo); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

// copyOnce makes one copy while nothing is left to be written back, and checks it.
func (b *bench) copyOnce(w mirrorWork, replica string, copyTo func(string) error) error {
	if err := syncDir(b.dir); err != nil {
		return err
	}
	if err := copyTo(replica); err != nil {
		return err
	}
	if err := sameTree(w.tree, replica); err != nil {
		return err
	}
	if w.discard {
		return os.RemoveAll(replica)
	}
	return nil
}

// mirrorOnce measures from the connect request to the answer that everything is
// applied. The mount is there before.
func (b *bench) mirrorOnce(ctx context.Context, row, tree, replica string) (r mirrorRun, err error) {
	p, err := b.startPair(ctx, row)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := p.mount(ctx, tree); err != nil {
		return r, err
	}
	before, err := p.cpu()
	if err != nil {
		return r, err
	}
	begin := time.Now()
	if _, err := p.connect(ctx, tree, replica); err != nil {
		return r, err
	}
	r.seconds = time.Since(begin).Seconds()
	after, err := p.cpu()
	if err != nil {
		return r, err
	}
	r.cpu = after - before
	for i, d := range []*daemon{p.source, p.target} {
		bytes, err := peakMemory(d.pid())
		if err != nil {
			return r, err
		}
		r.memory[i] = float64(bytes) / (1 << 20)
	}
	return r, nil
}

// rsyncOnce does the same with rsync and its daemon.
func (b *bench) rsyncOnce(ctx context.Context, tree, replica string, options []string) (r mirrorRun, err error) {
	if err := os.Mkdir(replica, 0o755); err != nil {
		return r, err
	}
	d, err := startRsyncDaemon(ctx, b.dir, replica)
	if err != nil {
		return r, err
	}
	defer d.stop()
	before, err := cpuSeconds(d.cmd.Process.Pid)
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, "rsync", append(append([]string{"-a"}, options...), tree+"/", d.url)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begin := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return r, fmt.Errorf("rsync: %w: %s", err, out)
	}
	r.seconds = time.Since(begin).Seconds()
	time.Sleep(50 * time.Millisecond) // the daemon collects its child
	after, err := cpuSeconds(d.cmd.Process.Pid)
	r.cpu = after - before + cmd.ProcessState.UserTime().Seconds() + cmd.ProcessState.SystemTime().Seconds()
	return r, err
}

func (b *bench) reportMirror(name string, f *mirrorFigures, gigabytes, floor float64) {
	ours, theirs := median(f.seconds), median(f.peer)
	b.table.add(figure{name: name + "speed", value: ours, unit: "s", reference: "rsync " + short(theirs) + " s",
		ratio: ratioOf(f.peer, f.seconds), bound: bound{must: floor, goal: 1, atLeast: true, onRatio: true}})
	b.table.add(figure{name: name + "CPU", value: median(f.cpu) / gigabytes, unit: "s/GB",
		reference: "rsync " + short(median(f.peerCPU)/gigabytes) + " s/GB", ratio: ratioOf(f.cpu, f.peerCPU)})
	b.table.add(figure{name: name + "peak memory of the source", value: median(f.source), unit: "MiB", bound: bound{goal: 300}})
	b.table.add(figure{name: name + "peak memory of the target", value: median(f.target), unit: "MiB", bound: bound{goal: 300}})
	b.table.note("%sours %s s, rsync %s s", name, spread(f.seconds), spread(f.peer))
}

// syncDir writes everything of dir's file system back, so that no run pays for the one
// before.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
