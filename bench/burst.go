package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// burstArgs of the load that creates files of 4 KiB and waits until a replica has them.
type burstArgs struct {
	Dir     string // made by the load
	Replica string // "" = only write
	Files   int
}

type burstResult struct {
	Writer    float64 // seconds the writer took
	Identical float64 // seconds from its start until the replica was identical
}

const burstSize = 4096

// burstBody is the content of file i: random, and no two alike.
func burstBody(pool []byte, i int) []byte {
	at := i * 61 % (len(pool) - burstSize)
	body := slices.Clone(pool[at : at+burstSize])
	binary.LittleEndian.PutUint64(body, uint64(i))
	return body
}

func burstLoad(a burstArgs) (any, error) {
	pool := randomPool(1 << 20)
	bodies, names := make([][]byte, a.Files), make([]string, a.Files)
	for i := range a.Files {
		bodies[i], names[i] = burstBody(pool, i), fmt.Sprintf("%s/n%d", a.Dir, i)
	}
	begin := time.Now()
	if err := os.Mkdir(a.Dir, 0o755); err != nil {
		return nil, err
	}
	for i, name := range names {
		if err := os.WriteFile(name, bodies[i], 0o644); err != nil {
			return nil, err
		}
	}
	r := burstResult{Writer: time.Since(begin).Seconds()}
	if a.Replica == "" {
		return r, nil
	}
	at, err := identicalAt(a.Replica, bodies, 4*time.Minute)
	r.Identical = at.Sub(begin).Seconds()
	return r, err
}

// identicalAt waits until dir holds exactly the files and returns when it did. The
// names are counted until they are complete; then the content is compared, and what is
// not right yet is waited for.
func identicalAt(dir string, bodies [][]byte, most time.Duration) (time.Time, error) {
	last := fmt.Sprintf("%s/n%d", dir, len(bodies)-1)
	err := until(most, func() bool {
		if fileSize(last) != burstSize {
			return false
		}
		nap(time.Millisecond) // counting is not free
		n, _ := countNames(dir)
		return n == len(bodies)
	})
	at := time.Now()
	if err != nil {
		n, _ := countNames(dir)
		return at, fmt.Errorf("%d of %d files: %w", n, len(bodies), err)
	}
	for i, body := range bodies {
		name := fmt.Sprintf("%s/n%d", dir, i)
		for !sameContent(name, body) {
			if err := until(most, func() bool { return sameContent(name, body) }); err != nil {
				return at, fmt.Errorf("%s differs: %w", name, err)
			}
			at = time.Now()
		}
	}
	return at, nil
}

func sameContent(name string, body []byte) bool {
	have, err := os.ReadFile(name)
	return err == nil && string(have) == string(body)
}

// countNames leaves out names with a dot, under which rsync keeps what is not whole.
func countNames(dir string) (int, error) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	n := 0
	for _, name := range names {
		if !strings.HasPrefix(name, ".") {
			n++
		}
	}
	return n, err
}

// burstFigures are those of all rounds.
type burstFigures struct{ plain, writer, identical, cpu, lsyncd []float64 }

// burstRow lets a writer run without capture, with it, and beside lsyncd, in turn.
func burstRow(ctx context.Context, b *bench) (err error) {
	p, err := b.startPair(ctx, "burst")
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, p.stop()) }()
	tree := filepath.Join(b.dir, "tree")
	if err := makeTree(tree, b.scale.smallTree, 1024, 16384); err != nil {
		return err
	}
	id, err := p.protect(ctx, tree, tree+".replica")
	if err != nil {
		return err
	}
	peer, err := b.startLsyncd(ctx, "burst")
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, peer.stop()) }()
	var f burstFigures
	for round := range b.scale.rounds {
		name := fmt.Sprintf("burst%d", round)
		var plain burstResult
		if err := child(ctx, "burst", burstArgs{Dir: filepath.Join(b.dir, name), Files: b.scale.burst}, &plain); err != nil {
			return err
		}
		f.plain = append(f.plain, plain.Writer)
		if err := f.ours(ctx, p, id, burstArgs{Dir: filepath.Join(tree, name), Replica: filepath.Join(tree+".replica", name), Files: b.scale.burst}); err != nil {
			return err
		}
		var theirs burstResult
		err := child(ctx, "burst", burstArgs{Dir: filepath.Join(peer.source, name), Replica: filepath.Join(peer.replica, name), Files: b.scale.burst}, &theirs)
		if err != nil {
			b.table.note("burst: lsyncd: %v", err)
			continue
		}
		f.lsyncd = append(f.lsyncd, theirs.Identical)
	}
	b.reportBurst(&f)
	return nil
}

// ours measures one burst through the pair, with the CPU time of both daemons until
// the target has confirmed everything.
func (f *burstFigures) ours(ctx context.Context, p *pair, id int, args burstArgs) error {
	before, err := p.cpu()
	if err != nil {
		return err
	}
	var r burstResult
	if err := child(ctx, "burst", args, &r); err != nil {
		return err
	}
	if err := p.settle(ctx, id); err != nil {
		return err
	}
	after, err := p.cpu()
	f.writer = append(f.writer, r.Writer)
	f.identical = append(f.identical, r.Identical)
	f.cpu = append(f.cpu, after-before)
	return err
}

func (b *bench) reportBurst(f *burstFigures) {
	name := fmt.Sprintf("burst of %d creates, ", b.scale.burst)
	writer, identical, plain, lsyncd := median(f.writer), median(f.identical), median(f.plain), median(f.lsyncd)
	b.table.add(figure{name: name + "identical after", value: identical, unit: "s", reference: "captured writer " + short(writer) + " s",
		ratio: ratioOf(f.identical, f.writer), bound: bound{must: 1.2, onRatio: true}})
	if !math.IsNaN(lsyncd) {
		b.table.add(figure{name: name + "faster than lsyncd", value: identical, unit: "s", reference: "lsyncd " + short(lsyncd) + " s",
			ratio: lsyncd / identical, bound: bound{must: 4, atLeast: true, onRatio: true}})
	}
	b.table.add(figure{name: name + "CPU of both daemons", value: median(f.cpu), unit: "s", bound: bound{must: 3}})
	b.table.add(figure{name: name + "captured writer", value: writer, unit: "s", reference: "without capture " + short(plain) + " s", ratio: writer / plain})
	b.table.note("burst rounds: plain %s | captured writer %s | identical %s | cpu %s | lsyncd %s s",
		spread(f.plain), spread(f.writer), spread(f.identical), spread(f.cpu), spread(f.lsyncd))
}

// ratioOf is the median of the ratios of each round.
func ratioOf(a, b []float64) float64 {
	var r []float64
	for i := range min(len(a), len(b)) {
		r = append(r, a[i]/b[i])
	}
	return median(r)
}

// joinStop adds how a part stopped to err.
func joinStop(err, stop error) error { return errors.Join(err, stop) }
