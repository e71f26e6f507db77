// Package stream is the second floor: the journal and the road. It is the only
// package that knows JetStream.
//
// A Server is the embedded messaging node of one machine. A Journal is the source
// queue (Q) of one connection and epoch: records get their number in it, are packed
// into frames, and frames are stored. A Transmitter pushes stored frames over a Link
// to the target's server, where a Receiver holds the target queue (T) and hands them
// out in order.
//
//	Put ─▶ builder ─▶ frame ─▶ Q ─ack─▶ Transmitter ─Gate─▶ T ─▶ Receiver.Next
//	PutMirror ─▶ builder ─▶ frame ──────▶ Transmitter ─Gate─▶ Receiver.NextMirror
//
// Frame i of an epoch is message i of Q and message i of T. Every publish says which
// message it expects before it, so a hole or a repeat cannot be stored. All windows
// are bounded in bytes. A frame leaves for the target only after Q has acknowledged
// it, and leaves Q only after the target confirmed it durable.
//
// Mirror frames are not stored: the source can read the data again. Their credit
// window bounds what is under way. A lost mirror frame is noticed (ErrMirrorLost) and
// ends that run of the mirror; a queued MirrorAbort and Receiver.SkipMirror let the
// next one begin.
//
// An acknowledged frame survives the death of the process, not of the machine, unless
// ServerConfig.Strict is set; the file store is synced once a second.
package stream
