// Package mirror copies the source to the target, beside live changes, and decides
// what of the live changes crosses the border of the replication set. A Mirror serves
// one connection.
//
// The copy needs no quiet time. Whatever is read is logged in the same lock hold, in
// the same log as the live changes, so a record says what was true exactly there and
// "later wins" is right for every byte and every name:
//
//	lock directory ─ list names ─ MirrorDir ─ unlock
//	lock directory ─ lock file ─ read ─ MirrorEntry with content ─ unlock ─ … ─ unlock
//	lock file ─ read a chunk ─ MirrorBlock ─ unlock ─ … ─ MirrorFileEnd ─ unlock
//	lock directory ─ look ─ MirrorDirEnd ─ unlock
//
// The target drops operations on objects it does not know; the mirror reads their
// result later. Objects that a rename or a link brings into a directory that was read
// already get their entry at once, from the goroutine that captured the rename
// (Border), and what is below them joins the work list.
//
// What the target must do for this to be right, beyond applying records in order:
//
//   - An object without a name left is forgotten, except between a Create with an
//     empty name and its Link.
//   - MirrorEntry binds its name whatever was bound there before. If the object is not
//     known and the name is bound to something unknown of the same type, that is
//     adopted with its content.
//   - A regular file is unsettled from a MirrorEntry without FlagWhole to its
//     MirrorFileEnd. ListReply shows an unsettled file with a zero modification time,
//     so that a difference mirror never takes it for finished.
//   - MirrorDir removes the names of known objects that it does not list. Objects
//     nobody knows are orphans and none of the mirror's business.
//
// A difference mirror compares S, the source at some place in the log, with T, the
// target at an earlier one. Where they are equal nothing is sent, because each
// operation between the two sets what it touches to what the source has, whatever the
// target had. The exceptions move content whose origin may differ: collapse, insert and
// truncate (File.Shifts), copies between files (sent as writes while a mirror runs) and
// directories that leave the set (ListQuery.After).
package mirror
