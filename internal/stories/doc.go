// Package stories is what the stories in the folders below share: daemons that are child
// processes of the test program, alone or as a source and its target, killed and started
// again as the story goes. It is for tests only, and holds none; what only one story needs
// stands beside its tests.
package stories
