// Command bench measures Understudy: two daemons on this machine, joined over loopback,
// against rsync, lsyncd, go-fuse's own loopback mount and the machine itself.
//
// Everything is measured in one run, ours and the reference in turn, and judged by the
// median of the rounds. Absolute times of a shared machine move by a factor of five;
// ratios of one run move little, so those are what the goals are about where there is a
// reference. It needs root, because it mounts.
//
// The program never touches a captured directory itself: a stuck mount would stop it as
// a whole. Children do (the same program, started as "bench load NAME ARGS"), and when
// time is over the mounts are cut off, which frees them.
package main
