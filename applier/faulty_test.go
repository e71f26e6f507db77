package applier

import (
	"math/rand/v2"
	"sync/atomic"

	"understudy/internal/fsx"
)

// faulty makes the n-th system call fail, or, while always is set, each of one step.
type faulty struct {
	n      int64
	err    error
	only   fsx.Step
	always atomic.Bool
	count  atomic.Int64
	hit    atomic.Bool
	step   fsx.Step
}

func (f *faulty) fault(s fsx.Step) error {
	if f.always.Load() && s == f.only {
		return f.err
	}
	if f.n > 0 && f.count.Add(1) == f.n {
		f.step = s
		f.hit.Store(true)
		return f.err
	}
	return nil
}

// newRand is a source of numbers below n, the same for the same seed.
func newRand(seed uint64) func(int) int {
	r := rand.New(rand.NewPCG(seed, seed))
	return r.IntN
}
