// Package failover lets a target stand in for a source: it watches the source, takes over
// its addresses when it is dead, and gives them back.
//
// A monitor is the record, kept on the target, that says which source is watched, how,
// and what is taken over. The countdown of an address (watch.go) is a plain value: silence
// adds up only while requests were really sent and listened for, so that a target that
// stalled, slept or whose clock was set never counts what it missed itself.
//
// A takeover and a failback are lists of named steps (steps.go). The record is on disk
// before a step begins, so whatever interrupts one, the next start goes on at that step:
// each may be done twice. An address is written down before it is added, with whether it
// was there already; failback removes exactly those that were not. A step that fails is
// noted and the rest goes on, because availability comes first; only an address that
// somebody else answers for, and a fence that did not hold, stop a takeover (F32, F33).
//
// The package knows nothing of queues and replicas: Host is what it asks the node,
// Network what it asks the kernel.
package failover
