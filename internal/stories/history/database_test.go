package history

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/testpostgres"
)

// TestPostgresStartsFromPastMoments (G90): rebuilt at marks set while it works, the database
// starts with the counter of that moment.
func TestPostgresStartsFromPastMoments(t *testing.T) {
	p := newPair(t)
	pg := testpostgres.New(t, filepath.Join(p.Dir, "pg"), filepath.Join(p.Base, "sock"))
	pg.Init()
	stopServer := pg.Start()
	defer stopServer()
	stopLoad := pg.Load()
	defer stopLoad()
	type instant struct {
		mark        control.Mark
		least, most int
	}
	rng := rand.New(rand.NewPCG(6, 7))
	var list []instant
	for i := range scaled(3, 10) {
		least := pg.Counted()
		waitFor(t, "the database to work", func() bool { return pg.Counted() > least+20+rng.IntN(50) })
		before := pg.Counted()
		m := p.mark(fmt.Sprint("moment ", i))
		// One more may be written in the log and wait for its flush: nobody is shown it, and a
		// server that starts from there has it.
		list = append(list, instant{m, before, pg.Counted() + 1})
	}
	stopLoad()
	p.Settle()
	for i, at := range list {
		req := control.ReplayRequest{Op: at.mark.Op, Epoch: at.mark.Epoch}
		if i%2 == 1 {
			req = control.ReplayRequest{At: at.mark.Time.Add(time.Millisecond)}
			at.most += 2 // within the millisecond
		}
		dir, rep := p.replay(req)
		must(t, os.Chmod(dir, 0o755))
		replica := testpostgres.New(t, filepath.Join(dir, "pg"), filepath.Join(p.Base, fmt.Sprint("sock-", i)))
		n := replica.Check()
		t.Logf("moment %d: operation %d, counter %d, rebuilt in %.2f s", i, rep.Op, n, rep.Seconds)
		if n < at.least || n > at.most {
			t.Errorf("moment %d: counter %d, on the source it was %d to %d", i, n, at.least, at.most)
		}
	}
}
