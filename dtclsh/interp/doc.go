// Package interp runs DTCL: it keeps the variables and what is current (source,
// target, replication set, monitor), asks nodes through their control verbs, and
// answers in text or JSON.
//
// Errors are values: a failing statement prints its code and the script goes on,
// unless Config.StopOnError says otherwise. The interpreter knows nothing that a
// control verb does not say.
package interp
