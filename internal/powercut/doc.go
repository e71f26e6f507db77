// Package powercut cuts the power of a disk, for tests. A Disk is a file system in an
// image file behind a loop device; the image lies on an xfs with shared extents, so that
// a copy of it, at any instant and without any sync before, takes milliseconds. What was
// only in the page cache of the Disk's file system is not in the copy: the loop device
// writes past the cache of its image (direct I/O), so the image holds what reached the
// block layer and nothing else. Such a copy, mounted, is the disk after a power cut.
//
// What it cannot show: a disk that loses what it acknowledged, because a flush did not
// come or was ignored. A copy holds all writes that reached the block layer before it.
//
// It needs root, loop devices and the programs mkfs.xfs, mkfs.ext4 and losetup. Whatever
// happens to the test program, a child unmounts everything and frees the devices.
package powercut
