// Package fileop holds the words of the system: one captured change to one file
// (Op), its number, and its bytes on the wire and on disk (frames).
//
// Objects are named by identity, not by path: an ObjID is the source's inode number
// and generation. Names are a parent's ObjID and one path component. So a write to
// an open file lands in the right file after any rename, hard links stay one file,
// and operations on different objects commute.
//
// Two lanes of records leave a source. The queue lane carries live changes, numbered
// by Seq without gaps within a connection and epoch. The mirror lane carries what the
// mirror read, numbered by its own counter. Every record also says how many records
// of the other lane were logged before it (Op.Other); together the two counters
// define one total order, which the applier restores.
package fileop
