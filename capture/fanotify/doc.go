// Package fanotify is the capture without a mount and without a watch per directory: one
// mark on the file system reports every changed object by its handle. Its fidelity is
// DirtyObjects: nothing that was changed is missed, but what happened and in which order
// is not told; the mirror reads the object again and sends what differs.
//
// It needs root, Linux 5.17, and a file system that finds objects by handle (ext4, xfs,
// tmpfs; of btrfs only the top subvolume). One mark serves all captured directories of a
// mounted file system; events elsewhere in it are recognised by their directory's handle
// and dropped.
//
// What the sink is told, with paths relative to the root:
//
//   - a name created or removed, content or attributes changed: Dirty(it, false);
//   - a rename: Dirty(the old name, false) and Moved(the new name, a directory), which
//     has the mirror move it on the target and compare what is below. Below a renamed
//     directory paths told before may no longer lead anywhere, hence all of it;
//   - what came in from outside the root: Dirty(it, true); what left: Dirty(it, false);
//   - a file of several names written through one outside the root, or without a known
//     name: Object(its handle);
//   - after lost events, once it is quiet: Dirty("", true), and the same every
//     Config.RescanEvery.
//
// A store through a shared mapping is reported when the mapping ends, not before; the
// rescan finds those of mappings that stay.
//
// Events are read in batches of batchDelay, because the kernel merges what waits: 100,000
// writes to one file were 13,426 events for a busy reader and 15 for one that looked every
// 50 ms. The order in a batch:
//
//	read ─▶ decode ─▶ directory handle ─▶ path (cache, dropped whenever a directory is
//	renamed) ─▶ roots it is below ─▶ merged hints ─▶ sinks
//
// The same events watch the directory beneath a stacked mount (Config.Bypass): there what
// this process changed is what the mount captures, and all else went past it.
//
// The kernel's queue has no bound (FAN_UNLIMITED_QUEUE), since the reader never waits for
// anything but the processor and keeps a bounded set of merged hints; the memory of
// events that wait is the kernel's, accounted to this process. Config.QueueLimit gives it
// one.
package fanotify
