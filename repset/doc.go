// Package repset holds replication sets: the named rules that say which files of a
// source are protected, where they go on the target, and how much they are.
//
// # Rules
//
// A rule is a path, include or exclude, recursive or not; written "/srv/pay inc, rec".
// The last component of the path may hold wild cards: * for any run of characters,
// ? for one. What a rule covers:
//
//	/d      rec     /d and everything below it
//	/d      norec   /d itself and the files directly in it
//	/d/*    rec     everything below /d, not /d itself
//	/d/*    norec   the files directly in /d
//	/d/*.x  rec     the files named *.x in /d and in every directory below it
//	/d/*.x  norec   the files named *.x directly in /d
//
// A file here is anything that is not a directory: directories come by recursion
// alone. The longest rule that covers a path decides; of two as long, exclude. Length
// is counted in components, so that it does not depend on how names are spelt; a last
// component of * alone counts for half of one, being less specific than any name. The
// order in which rules were entered means nothing. What no rule covers is not selected.
//
// A directory that is not selected itself but leads to something that is (Rules.Leads)
// exists on the target too.
//
// Compile turns rules into a trie of their literal components. Selecting a path walks
// down its components and then looks at the wild cards that reach this place, so the
// cost does not depend on the number of rules, and nothing is allocated.
//
// The package does not look at the file system, save for Rules.Roots and Measure.
package repset
