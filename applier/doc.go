// Package applier is the third floor: it executes operations on the target, in order,
// each taking effect once, and never outside the target path.
//
// # Order
//
// One goroutine decides. It merges the two lanes (the queue and the mirror's data) by
// the counters every record carries, and executes one record after another. A record
// that cannot be executed now (disk full, file busy) is tried again; those behind it
// wait. A record about an object the target does not know is dropped and counted: before
// mirror end that is expected.
//
// # Inside the target path
//
// The target directory is held by descriptor. Objects are found by their source
// identity in the catalog, which knows parent and name, and opened one component at a
// time with openat2 (beneath, no links). After an open the kernel's file handle must be
// the one the catalog remembers; what somebody else put there is not touched.
//
// # Position
//
// Apply, sync, record the position, then confirm. A checkpoint sets all waiting
// modification times, freezes the catalog's changes with the position, and then, beside
// further operations, makes the target's file systems durable (syncfs) and commits
// catalog and position in one bbolt transaction. Only then OnDurable is called.
//
// # Restart
//
// After an unclean stop the files are at some state Q later than the catalog's P.
// Recover rewinds the names to P (rewind.go) and the operations after P are applied
// again. Data and attribute operations are absolute, so once more does no harm. Those
// that read content (collapse, insert, copy range) get the content they read saved
// before it changes (exact.go).
//
// # The hidden staging directory
//
// Objects without a name (O_TMPFILE, or on their way), saved content and leftovers moved
// out of the way live in ".understudy-<base>-<hash>" beside the target directory, or, if
// that is another mount or not writable, in ".understudy" inside it. It is made on
// demand, removed when empty, never listed and never an orphan. Its names begin with
// o- (object without a name), p- (parked by the mirror until its end), s- (saved
// content), t- (being deleted), r- (rescued at a restart) and x- (somebody's files that
// were in the way; they stay until the operator looks).
package applier
