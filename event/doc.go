// Package event is what a node tells its operator: numbered events with a fixed
// meaning, and alerts, which are conditions that begin and end.
//
// Every event has a row in the table (table.go): number, category, severity, text and
// what a person should do. A number never changes its meaning. Numbers below 20000 are
// those the original product used; ours begin there.
//
// An event goes three ways: to the log, to a journal of bounded size below the data
// directory (journal.go), and to whoever lists or follows them. The journal survives a
// kill of the daemon; after a power cut its last second may be missing. A damaged row is
// left out and counted.
//
// The same event about the same thing is not repeated endlessly: what comes again
// within 10 s is counted, and one row says how often (flood.go).
package event
