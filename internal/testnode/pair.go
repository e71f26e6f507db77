package testnode

import (
	"testing"

	"understudy/internal/access"
)

// Home is the name of a node and its data directory.
type Home struct{ Name, Data string }

// Pair makes nodes that do not run known to each other.
func Pair(t testing.TB, homes ...Home) {
	t.Helper()
	rings := make([]*access.Keyring, len(homes))
	for i, h := range homes {
		var err error
		if rings[i], err = access.Open(h.Data, h.Name); err != nil {
			t.Fatal(err)
		}
		for _, other := range rings[:i] {
			if err := access.PairUp(rings[i], other, "", ""); err != nil {
				t.Fatal(err)
			}
		}
	}
}
