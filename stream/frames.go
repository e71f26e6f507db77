package stream

import (
	"time"

	"understudy/fileop"
)

// sealed is a finished frame in memory.
type sealed struct {
	data []byte
	last fileop.Seq
	end  fileop.Chain
	at   time.Time // its first record was logged
}

// smallFrame is the size up to which a finished frame is copied out of the builder's
// buffer, so that it holds no more memory than it needs and the buffer serves again.
const smallFrame = 64 << 10

// seal finishes the frame a builder holds; nil data if it is empty.
func seal(b *fileop.Builder, at time.Time) sealed {
	h, end, data := b.Finish()
	if data == nil {
		return sealed{}
	}
	if len(data) <= smallFrame {
		own := make([]byte, len(data))
		copy(own, data)
		b.Recycle(data)
		data = own
	}
	return sealed{data: data, last: h.Last(), end: end, at: at}
}

// window is a run of frames in memory, numbered. The zero value with base set is ready.
type window struct {
	base   uint64 // number of frames[0]
	frames []sealed
	bytes  int
}

func (w *window) push(f sealed) {
	w.frames = append(w.frames, f)
	w.bytes += len(f.data)
}

// end is the number of the next frame pushed.
func (w *window) end() uint64 { return w.base + uint64(len(w.frames)) }

// at returns frame i, if it is in memory.
func (w *window) at(i uint64) (sealed, bool) {
	if i < w.base || i >= w.end() {
		return sealed{}, false
	}
	return w.frames[i-w.base], true
}

// drop forgets the first frame.
func (w *window) drop() sealed {
	f := w.frames[0]
	w.frames[0] = sealed{}
	w.frames = w.frames[1:]
	w.base++
	w.bytes -= len(f.data)
	return f
}

// trim forgets acknowledged frames: those confirmed by the target, and the oldest ones
// beyond tailMax bytes of acknowledged frames.
func (w *window) trim(acked, confirmed uint64, ackedBytes *int, tailMax int) {
	for len(w.frames) > 0 && w.base <= acked && (w.base <= confirmed || *ackedBytes > tailMax) {
		*ackedBytes -= len(w.drop().data)
	}
}
