// Package node is one running machine: source and target at once. It is the only
// place where the floors meet, and it owns every lifetime.
//
// A connection on the source (connection.go) lives in sessions. A session is one
// epoch: journal, border and mirror, link, transmitter, run together and end together.
// What ends a session other than the operator is healed by the next one: a new epoch
// and a difference mirror. A replica on the target (replica.go) is the other half: the
// receiving queue, the applier, and the answers to the source's questions.
package node
