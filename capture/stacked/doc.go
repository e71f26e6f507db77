// Package stacked captures by standing in the way: a FUSE file system mounted over the
// live directory does every operation on the real directory below, and hands what it
// did to the sinks before it answers the application.
//
// The directory below is reached by a descriptor opened before the mount, through a
// private copy of its mount, so that neither this mount nor any other is ever met on
// the way down.
//
// # Order
//
// Every change takes these steps, and no others:
//
//  1. lock the objects concerned: the directories whose names change, in the order of
//     their identities, then the files, in the order of theirs;
//  2. do the system call below;
//  3. give the operation to every sink attached;
//  4. unlock;
//  5. answer the application.
//
// So what was answered before another began comes before it in the log, and the log's
// order of one object is the order in which its changes took effect. An fsync below
// holds no lock. The mirror reads under the same locks (Capture.Tree).
//
// # What applications may notice
//
// Rename and link across the border of the directory give EXDEV. Reflinks, chattr and
// other ioctls, and the fallocate modes collapse, insert and unshare give EOPNOTSUPP
// or ENOTTY. syncfs(2) on the mounted directory returns without syncing the file
// system below: the kernel does not forward it; sync(2) and fsync(2) do their work.
// Other devices below the directory (btrfs subvolumes) give EXDEV, and Mount refuses
// a directory with mounts below it. Stores to shared mappings are captured when the
// kernel writes the pages back: at msync, fsync and close at the latest.
//
// Writes are done by this process, which as root may use the blocks reserved for root
// and is not bound by quotas; a daemon that wants EDQUOT drops CAP_SYS_RESOURCE.
//
// # Ends
//
// When the context of Run ends the mount is taken away, lazily if it is busy; open
// files are served for Config.Linger longer, then they give ENOTCONN. Nothing in this
// package touches a path below its own mount while serving. The program it is part of
// may open, read and write files there, but not map them into memory, and not start a
// program from there or in a directory there: a Go program that waits for its own
// mount in a page fault or between fork and exec can stop as a whole, and nobody
// serves.
package stacked
