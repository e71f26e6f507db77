// Package tasks holds stories of task commands and of trial connections: a source and a
// target as daemons of their own (docs/operate/tasks.md).
package tasks
