// Package settings is the table of everything an operator can set: names, kinds, ranges,
// defaults, and what each setting is good for. SET and GET, docs/settings.md, completion
// and the keys of the daemon's configuration are made from it.
//
// The names are the original product's, and case does not matter. A name that has no
// effect here is accepted all the same, so that scripts go on to work; the answer says so,
// and why. Nothing is ignored in silence.
//
// The package holds words only: what a setting does is done by the node.
package settings
