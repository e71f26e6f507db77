package node

import "testing"

// TestMemoryGoesBack: in the first quiet moment after work, if there is enough of it, and
// once more when caches have expired; a node that goes on working, and one that slept all
// the time, collect nothing.
func TestMemoryGoesBack(t *testing.T) {
	const MiB = 1 << 20
	work := uint64(restRate*restEvery.Seconds()) + MiB
	r, allocs := resting{kept: 10 * MiB}, uint64(0)
	look := func(what string, more, held uint64, want bool) {
		t.Helper()
		allocs += more
		if got := r.look(allocs, held); got != want {
			t.Errorf("%s: %v", what, got)
		}
		if want {
			r.kept = 12 * MiB
		}
	}
	look("never worked", MiB, 10*MiB, false)
	look("works", work, 100*MiB, false)
	look("works on", work, 120*MiB, false)
	look("rests", MiB, 120*MiB, true)
	for range restAgain - 2 {
		look("rests on", MiB, 100*MiB, false)
	}
	look("caches have expired", MiB, 100*MiB, true)
	look("sleeps", MiB, 100*MiB, false)
	look("works a little", work, 20*MiB, false)
	look("little to give", MiB, 20*MiB, false)
}
