package stream

import (
	"fmt"

	"understudy/fileop"
)

// What a journal does with its tail.

// resumeTail puts again, under their old numbers, the records that the former process
// put and Q does not have. They were sent to nobody: the transmitter takes only frames
// that Q has stored, so how they are framed now is free.
func (j *Journal) resumeTail() error {
	t := j.cfg.Tail
	if t == nil {
		return nil
	}
	if t.epoch != j.cfg.Epoch {
		return fmt.Errorf("%w: tail of epoch %x", ErrBroken, t.epoch)
	}
	k, chain := t.mirrorEnd()
	if k+1 < j.mirror.Next() {
		return fmt.Errorf("%w: the queue counts %d mirror records, its tail %d", ErrBroken, j.mirror.Next()-1, k)
	}
	j.mirror = fileop.NewBuilder(fileop.LaneMirror, j.cfg.Epoch, k+1, chain)
	j.tail = t
	return t.after(j.ackedSeq, func(r record) { j.appendQueue(r.data, r.other) })
}

// Logged reports whether the operation of a request (fileop.Op.Token) in a tree is
// logged. It is exact for requests that were unanswered when the process before ended.
func (j *Journal) Logged(tree uint32, token uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.tail != nil && token != 0 && j.tail.logged(tree, token)
}

// Tail of the journal; nil: none. It is no good after Close.
func (j *Journal) Tail() *Tail { return j.cfg.Tail }

// forsake says that no successor may go on behind this journal: it has a hole, or ends.
func (j *Journal) forsake() {
	if j.cfg.Tail != nil {
		j.cfg.Tail.Kill()
	}
}

func (j *Journal) closeTail() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.tail
	j.tail = nil
	if t == nil {
		return nil
	}
	return t.Close()
}

// maxShrink bounds the memory one call of shrinkTail gives back, in segments.
const maxShrink = 8

// shrinkTail gives memory of the tail back that a burst took.
func (j *Journal) shrinkTail() {
	for range maxShrink {
		j.mu.Lock()
		more := j.tail != nil && j.tail.shrink()
		j.mu.Unlock()
		if !more {
			return
		}
	}
}
