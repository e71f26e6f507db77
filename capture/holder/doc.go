// Package holder keeps what has to outlive the daemon: a small process of its own,
// started by the daemon and detached from it, that holds named descriptors (a FUSE
// connection, the directory below it, shared memory) and gives them to the next
// daemon.
//
// # What it promises
//
// A descriptor whose Keep returned, or that was handed over (Hand), stays open when the
// daemon is killed at any instant. The next daemon is let in only when the last thread
// of the one before has ended, so no system call of the old one takes effect after the
// new one has begun to look.
//
// If no daemon comes back within Grace, the holder writes down that changes were
// missed (Gap), ends the FUSE connections, takes the mounts away, so that applications
// meet the native directory, and ends. A daemon that hangs (it sends no sign of life, or
// it takes no request although some wait) is killed after Watchdog.
//
// If the holder is killed, the client starts another one and hands everything over
// again. If both are killed at once nothing is held: the kernel ends the connections.
//
// # What it does not do
//
// It enters no mount but one whose connection it has ended, and knows nothing of what it keeps but this: an item whose
// name begins with MountPrefix is a FUSE connection, its meta is a Mount, and its
// last file is shared memory that begins with a Progress.
package holder
