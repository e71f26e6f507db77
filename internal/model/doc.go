// Package model executes operations on a tree in memory: what the applier must make of
// the same operations on a disk. It is plain and shares no code with the applier, so a
// test that freezes the applier at some number can compare the files it finds there with
// the model's state at that number.
//
// The model starts empty: the target directory must too. It knows nothing of orphans,
// and takes for the content of a file only what operations put there. What the kernel
// does by itself on the target it does as well: an access ACL changes the mode and the
// reverse, and changes of content or owner drop file capabilities.
//
// Operations come in the order in which the applier merges the two lanes. A Model is
// for one goroutine.
package model
