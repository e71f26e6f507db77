package tasks

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/control"
)

// TestTargetLimitChangedLive: a target whose queue is at its limit holds the source up,
// which queues and goes on with its session (B6.35, B6.45); the limit raised on the
// running target lets more in, lowered it holds again, and resumed everything arrives.
func TestTargetLimitChangedLive(t *testing.T) {
	p := unconnected(t)
	p.Target.Stop()
	p.Target.Cfg.QueueLimit = 32 << 20
	p.Target.Start()
	p.Connect(control.ConnectRequest{Rules: p.All()})
	p.Settle()
	noise := make([]byte, 1<<20)
	_, _ = rand.Read(noise)
	files := 0
	write := func(n int) {
		for range n {
			files++
			must(t, os.WriteFile(filepath.Join(p.Dir, fmt.Sprint("f", files)), noise, 0o644))
		}
	}
	con := func() control.Connection { return p.Source.Status().Connections[0] }
	full := func() bool { return strings.Contains(con().LastError, "target queue is full") }
	limit := func(mb, most int) { // what is stored stays, so the limit in force may be as much
		p.Target.Ask("setting.set", control.SettingRequest{Name: "QJournalSpaceMax", Value: fmt.Sprint(mb)}, nil)
		waitFor(t, fmt.Sprint("a limit of ", mb, " MB in force"), func() bool {
			return p.Target.Status().Replicas[0].QueueLimit <= int64(most)<<20 && p.Target.Status().Replicas[0].QueueLimit >= int64(mb)<<20
		})
	}
	received := func() int64 { return p.Target.Status().Replicas[0].QueuedBytes >> 20 }
	epoch := con().Epoch
	p.pause(true)
	write(45)
	waitFor(t, "word that the target's queue is full", full)
	limit(256, 256)
	waitFor(t, "the rest to arrive at the paused target", func() bool { return !full() && received() >= 45 })
	limit(32, 64)
	write(30)
	waitFor(t, "word that it is full again", full)
	if c := con(); c.Epoch != epoch || c.QueuedBytes < 5<<20 {
		t.Errorf("epoch %s, then %s; %d bytes wait", epoch, c.Epoch, c.QueuedBytes)
	}
	p.pause(false)
	p.Settle()
	if c := con(); c.Epoch != epoch || full() {
		t.Errorf("epoch %s, then %s: %s", epoch, c.Epoch, c.LastError)
	}
	same(t, p.Dir, p.Replica)
}
