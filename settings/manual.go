package settings

import (
	"fmt"
	"strings"
)

// Manual is docs/settings.md: what each setting does, made from the table.
func Manual() string {
	var b strings.Builder
	b.WriteString(manualHead)
	b.WriteString("## Settings with an effect\n\n| name | belongs to | values | default | counts | configuration key | what it does |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for i := range Table {
		if s := &Table[i]; s.Without == "" && !s.ReadOnly {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", s.names(), s.Owner, s.Range(), shown(s.Default), s.When, shown(s.Key), s.Help)
		}
	}
	b.WriteString("\n## What the machine tells\n\nThese cannot be set.\n\n| name | what it is |\n| --- | --- |\n")
	for i := range Table {
		if s := &Table[i]; s.ReadOnly {
			fmt.Fprintf(&b, "| %s | %s |\n", s.names(), s.Help)
		}
	}
	b.WriteString("\n## Accepted, without an effect\n\nThe value is checked and kept, and the answer says that it does nothing.\n\n| name | belongs to | values | default | what it was for | why it has no effect |\n| --- | --- | --- | --- | --- | --- |\n")
	for i := range Table {
		if s := &Table[i]; s.Without != "" {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", s.names(), s.Owner, s.Range(), shown(s.Default), s.Help, s.Without)
		}
	}
	return b.String()
}

func (s *Setting) names() string {
	return strings.Join(append([]string{s.Name}, s.Aliases...), ", ")
}

// shown is a word of code; nothing stays nothing.
func shown(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

const manualHead = "# Settings\n\n" + `This page is made from the table of settings; ` + "`go test ./settings -run Manual -update`" + ` writes it.

The names are those of the original product; upper and lower case are the same. In the shell:

    get NetworkRetry                  of the current source, else of the current target
    get NetworkRetry on jersey        of a machine
    get *                             all
    set NetworkRetry = 5              change it; yes and no may be written for 1 and 0
    set NetworkRetry = default        take the change back

` + "`set`" + ` answers one of:

- *applied*: it counts; a note says so if only from the next mirror or session of a connection on.
- *stored, restart needed*: it counts from the next start of the daemon, or once the flag or the environment variable
  that overrides it is gone.
- *accepted, has no effect*: and why.
- error -116: no setting has this name. Error -135: the value is out of range, or the setting cannot be set; the error
  says what is accepted.

What is set is kept in ` + "`settings.json`" + ` of the data directory, and in a second copy beside it. Only what was set
stands there. A copy that is damaged is noticed by its checksum and the other one is used; if both are, the daemon does
not start and says so, since the settings decide what happens to data. Move both away to begin with the configuration
file and the defaults.

Where the same thing is said in several places, the later counts: the default, the configuration file
(` + "`ops/sample.yml`" + `), what was set, the environment (` + "`UNDERSTUDY_...`" + `) and the flags of the daemon.

`
