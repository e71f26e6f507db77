// Package syntax is the grammar of DTCL, the language operators steer nodes with:
// scanner, parser, nodes, printer, and the table of commands that help, completion and
// docs/shell.md are made from.
//
// A statement is an assignment, IF, WHILE, FOR, or a command. The forms of a command
// are patterns in the table (see pattern.go), so a command is one row and the parser
// knows none of them by name.
//
// Two scanners share one text: bare words of a command may hold / . - *, which are
// operators in an expression. The parser says which it wants at each place.
//
// Keywords are taken in any case and may be cut short to three letters or more where
// that is unambiguous. Printing writes them in full; what is printed parses to the
// same nodes.
package syntax
