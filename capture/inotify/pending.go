package inotify

import (
	"cmp"
	"slices"
	"time"
)

const (
	// flushAfter is how long hints are gathered before the sink is told: an editor's or
	// a copier's handful of events becomes one hint.
	flushAfter = 20 * time.Millisecond
	// maxPending and maxPendingBytes bound what is gathered. Beyond, everything is
	// dirty: looking at the tree once costs less than at so many places.
	maxPending      = 1 << 16
	maxPendingBytes = 16 << 20
)

type hint struct {
	path string
	deep bool
}

// pending merges hints. The zero value is empty.
type pending struct {
	deep  map[string]bool // by path
	bytes int
	all   bool // Dirty("", true) stands for every other
}

func (p *pending) empty() bool { return len(p.deep) == 0 && !p.all }

func (p *pending) add(path string, deep bool) {
	if p.all {
		return
	}
	old, known := p.deep[path]
	if !known {
		p.bytes += len(path)
	}
	if (path == "" && deep) || len(p.deep) >= maxPending || p.bytes > maxPendingBytes {
		*p = pending{all: true}
		return
	}
	if p.deep == nil {
		p.deep = map[string]bool{}
	}
	p.deep[path] = old || deep
}

// take empties p and returns its hints, directories before what is in them.
func (p *pending) take() []hint {
	if p.all {
		*p = pending{}
		return []hint{{"", true}}
	}
	out := make([]hint, 0, len(p.deep))
	for path, deep := range p.deep {
		out = append(out, hint{path, deep})
	}
	*p = pending{}
	slices.SortFunc(out, func(a, b hint) int { return cmp.Compare(a.path, b.path) })
	return out
}
