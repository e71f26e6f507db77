// Package lower reads the directory under a capture: the real one, by a descriptor
// opened before anything was mounted over it. Its Tree, Dir and File are what the
// mirror reads beside live changes; the node fits the types together.
//
// Objects are opened again by the Ref of the entry they were listed with. As root,
// and on a file system that has them, a Ref is the kernel's file handle: it finds the
// object under whatever name it has now, and never another one that got its inode
// number. Otherwise a Ref is the path relative to the root and the object found there
// must have the same identity. New decides the form once, by trying.
//
// What is gone (removed, replaced, moved out of the tree, or in path form moved at
// all) is an error for which errors.Is(err, fs.ErrNotExist) holds.
//
// Other file systems mounted below the root are not entered. A directory something is
// mounted on is listed as an empty directory, with the attributes of what is mounted
// there and an identity made from its place; a file something is mounted on is
// ErrOtherFS, and gone. Tree.Mounts names those that were met.
//
// Only directories and regular files are ever opened; fifos, sockets and devices are
// looked at through O_PATH descriptors, which disturb nobody. Access times stay as
// they are where the kernel permits O_NOATIME. /proc must be mounted.
//
// With Locks, a Dir or File locked by WithLock excludes captured operations. Without,
// the tree may change under every call; then only later passes converge.
package lower
