// Package schedule decides when a source may send to a target (B10). It is arithmetic
// over values: no clock, no goroutine, no disk. Whoever uses it asks once a second
// (B10.5) with the time and the state of the queues.
//
// One Schedule belongs to one target address and rules all connections of this source
// to it (B10.4). Start criteria begin a session, stop criteria and an empty queue end
// it, the window beats everything, and a manual start beats the start criteria only.
package schedule
