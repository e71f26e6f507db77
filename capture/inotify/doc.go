// Package inotify is the capture that needs no privilege: an inotify watch per
// directory, by fsnotify. Its fidelity is Hints: "look here again". It never tells
// what happened, nor in which order, and it may miss what the kernel does not report:
// stores through a shared mapping, and everything that comes when the kernel's queue
// is full. So a look at everything follows each loss and, without one, every
// Config.RescanEvery. It is no ground for a promise about consistency.
//
// What the sink is told, with paths relative to the root:
//
//   - a name created, removed or renamed: Dirty(its directory, false);
//   - a file or directory created, written, or its attributes changed: Dirty(it, false);
//   - a directory that appears, created or moved here: the same for it and for all
//     that is found below it after its watch was set, so that nothing created between
//     the two is missed; one with many names is Dirty(it, true) instead;
//   - a directory that cannot be watched: Dirty(it, true) every Config.PollEvery;
//   - at the start, after events were lost, and every Config.RescanEvery, after all
//     watches were set anew: Dirty("", true).
//
// Hints are merged for flushAfter. Symbolic links are not followed and other file
// systems below the root not entered. One goroutine, Run's own, does all the work.
package inotify
