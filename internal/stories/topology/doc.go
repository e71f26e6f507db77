// Package topology holds stories of several machines: daemons as processes of their own,
// each in a network namespace, joined by one switch. Each story is a way to arrange
// sources and targets (docs/operate/topologies.md).
package topology
