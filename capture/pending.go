package capture

import (
	"cmp"
	"slices"
)

// The bound of what Pending gathers. Beyond, everything is dirty: looking at the tree
// once costs less than at so many places.
const (
	MaxPending      = 1 << 16
	MaxPendingBytes = 16 << 20
)

// Hint is one place to look at, as HintSink.Dirty is told of it.
type Hint struct {
	Path string
	Deep bool
	// Moved: all that is known is that an object came here by a rename from within the
	// root, so its content is probably on the target already.
	Moved bool
}

// Pending merges hints until they are taken. The zero value is empty. One goroutine at a
// time may use it.
type Pending struct {
	of    map[string]Hint // by path
	bytes int
	all   bool // Dirty("", true) stands for every other
}

// Empty reports that there is nothing to take.
func (p *Pending) Empty() bool { return len(p.of) == 0 && !p.all }

// Add keeps a hint, or widens what is known of its path.
func (p *Pending) Add(h Hint) {
	if p.all {
		return
	}
	old, known := p.of[h.Path]
	if !known {
		p.bytes += len(h.Path)
	}
	if (h.Path == "" && h.Deep) || len(p.of) >= MaxPending || p.bytes > MaxPendingBytes {
		*p = Pending{all: true}
		return
	}
	if p.of == nil {
		p.of = map[string]Hint{}
	}
	if known {
		h.Deep, h.Moved = old.Deep || h.Deep, old.Moved && h.Moved
	}
	p.of[h.Path] = h
}

// Take empties p and returns its hints, directories before what is in them.
func (p *Pending) Take() []Hint {
	if p.all {
		*p = Pending{}
		return []Hint{{Path: "", Deep: true}}
	}
	out := make([]Hint, 0, len(p.of))
	for _, h := range p.of {
		out = append(out, h)
	}
	*p = Pending{}
	slices.SortFunc(out, func(a, b Hint) int { return cmp.Compare(a.Path, b.Path) })
	return out
}
