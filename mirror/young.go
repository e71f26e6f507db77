package mirror

import (
	"sync"
)

// maxYoung bounds the files remembered as made in the set.
const maxYoung = 8192

// youngSet remembers the files that were created in the set lately, so that the target
// knows them: programs that create, link and unlink make nothing be sent twice.
type youngSet struct {
	mu       sync.Mutex
	now, old map[seenKey]struct{} // together the last maxYoung to 2*maxYoung
}

func (y *youngSet) add(k seenKey) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.now == nil || len(y.now) >= maxYoung {
		y.old, y.now = y.now, map[seenKey]struct{}{}
	}
	y.now[k] = struct{}{}
}

func (y *youngSet) has(k seenKey) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	_, now := y.now[k]
	_, old := y.old[k]
	return now || old
}

// remove forgets a file that lost a name: it may have none left in the set.
func (y *youngSet) remove(k seenKey) {
	y.mu.Lock()
	defer y.mu.Unlock()
	delete(y.now, k)
	delete(y.old, k)
}
