package fileop

// Recycle gives the bytes of a finished frame back, for whoever copied them elsewhere,
// so that the next frame is built in them. buf is not used by the caller any more.
// Without it each frame, however small, costs a new 64 KiB buffer.
func (b *Builder) Recycle(buf []byte) {
	if b.buf == nil && cap(buf) >= HeaderSize {
		b.buf = buf[:0]
	}
}
