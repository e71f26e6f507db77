// Package sametree is the one full comparison of two directory trees that tests use:
// names, types, content, holes, modes with set-id bits, numeric owners, modification
// times to the nanosecond (of directories and symbolic links too), extended attributes
// and with them ACLs, hard-link groups, symbolic link targets, device numbers.
//
// It shares no code with the product: what the product forgets must not be forgotten
// here. A tree is read through plain system calls relative to directory descriptors,
// without following links; files are read from begin to end rather than where the
// file system says there is data, so a file system that says wrongly is found out.
//
// Snapshot remembers a tree, so that it can be compared when it is long gone. The
// trees must be at rest; a name that vanishes while it is looked at is an error.
package sametree
