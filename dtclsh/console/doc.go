// Package console is the shell at a prompt: line editing, history, completion of
// keywords and names, statements over several lines, and Ctrl-C, which ends a wait but
// not what it waits for.
//
// Passwords never enter the history: a line that logs in is left out of it as a whole.
package console
