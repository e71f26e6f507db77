// Package history keeps what a replica applied, so that its past can be rebuilt: a log of
// the frames of both lanes behind a base, in segments on disk. The base, a copy of the
// replica at the log's beginning, and the applying belong to the node.
//
// # Order
//
// A frame is appended before the applier gets it, and synced before the applier's
// position that covers it is made durable. So after a kill the log holds everything the
// replica holds, and after a power cut at least everything below the durable position.
// Frames that come again, as after a restart, are recognised and not kept twice. A queue
// frame that is not the successor of the last one is ErrGap: the log takes nothing more.
//
// # Epochs
//
// An epoch ends with a record that says what the replica had applied of it, so that a
// rebuild leaves out what the replica never got. The next one begins only behind it.
//
// # Damage
//
// Every record has a checksum. A torn end, as a power cut leaves it, is cut off at the
// next Open. Damage before the end is ErrDamaged where it is read.
package history
