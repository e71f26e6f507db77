// Package tui is the text client: the shell on a full screen. A status area shows the
// connections of the current source, a pane below it what the machine reports and what
// commands answer, and the bottom line takes DTCL.
//
// One goroutine runs statements, one looks at the connections, one follows the events;
// all of them end with Run. What is shown is a function of the model alone (view.go),
// and every change of it goes through Update. A daemon that does not answer is shown as
// such and asked again until it does.
//
// Text from outside never reaches the terminal with its control characters, but for
// colours.
package tui
