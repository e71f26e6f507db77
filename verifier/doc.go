// Package verifier compares a source with its replica while both change.
//
// A first look is quick and without locks: the directory as it is read here, against what
// the target holds at that moment (whole directories by one digest). What looks equal is
// equal. What looks different may merely be under way, so it is looked at again, exactly:
// the source reads one object under its lock and, still under the lock, puts a question
// into the queue; the target answers when it has applied everything before the question
// and nothing after it. Both have then seen the same moment, and a difference is one.
//
// A tree without locks (captured by hints) has no such moment: its object is read, then
// everything that happened before is waited for, then the question is asked, and the object
// read once more. If it changed meanwhile all that is done again.
//
// Nothing is changed on either side, but for orphans where that is asked for: the question
// then also says that the source has nothing under the name, and what the target has there
// is removed or set aside.
package verifier
