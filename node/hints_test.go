package node

import (
	"fmt"
	"os"
	"testing"
)

// TestSettledHintsAreOver: captured by hints, nothing that was changed before a settle is
// sent again behind it: files of the replica have their times when it returns, and keep
// them.
func TestSettledHintsAreOver(t *testing.T) {
	p := newPair(t, false)
	p.connect()
	p.settle()
	s, err := p.source.live(p.id)
	must(t, err)
	for i := range 30 {
		must(t, os.WriteFile(fmt.Sprintf("%s/file%d", p.dir, i%10), make([]byte, 1000*i), 0o600))
		p.settle()
		_, settled := s.journal.Last()
		must(t, s.captures[0].sync()) // what was not told yet is told now
		waitFor(t, "the mirror", s.mirrorIdle)
		if _, now := s.journal.Last(); now != settled {
			t.Fatalf("round %d: %d records were sent behind the settle", i, now-settled)
		}
		p.same()
	}
}
