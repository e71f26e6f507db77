// Package exercise works on a directory through ordinary system calls, the way
// xfstests' fsx and fsstress do, so that tests can see whether a mount behaves and
// whether what was captured replays to the same tree.
//
// FSX keeps a copy of one file in memory and checks everything it reads against it.
// Stress runs workers against each other over one small tree, with every kind of name,
// content and attribute change. Rate makes a steady stream of mixed changes.
//
// All are deterministic by seed (Stress and Rate with one worker, times aside). Errors
// the kernel may give to a call chosen at random are counted; any other fails with the
// last calls made. They work on a plain directory and on a FUSE mount alike and need no
// root, but do more as root (devices, owners, trusted attributes).
package exercise
