package stream

import (
	"testing"
	"time"
)

// TestServerLogIsBounded: a peer that breaks the rules a thousand times a second fills no
// log, and what was left out is counted.
func TestServerLogIsBounded(t *testing.T) {
	var f few
	lines, left := 0, 0
	at := time.Unix(0, 0).Add(time.Hour)
	for i := range 60_000 { // a minute
		if ok, n := f.pass(at.Add(time.Duration(i) * time.Millisecond)); ok {
			lines, left = lines+1, left+n
		}
	}
	if lines != 6*maxServerLines || lines+left+f.left != 60_000 {
		t.Errorf("%d lines, %d and %d left out", lines, left, f.left)
	}
}
