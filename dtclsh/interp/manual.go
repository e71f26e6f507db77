package interp

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// Exit codes of the program dtclsh. EXIT with a status gives that instead.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitStopped     = 3
	ExitInterrupted = 130
)

var exitCodes = []struct {
	code int
	when string
}{
	{ExitOK, "the last statement returned 0 or more; an interactive session always"},
	{ExitFailed, "the last statement failed; or no daemon was reached"},
	{ExitUsage, "wrong options of the program, or a script that does not parse: nothing of it was run"},
	{ExitStopped, "`--stop-on-error` ended the script at a failing statement"},
	{ExitInterrupted, "Ctrl-C, or SIGTERM"},
}

// ExitCode is the exit code for what Run returned.
func (in *Interp) ExitCode(err error) int {
	if n, given := in.ExitStatus(); given {
		return int(n)
	}
	switch {
	case err == ErrStopped:
		return ExitStopped
	case err != nil && err != ErrExit:
		return ExitInterrupted
	case in.last.Failed():
		return ExitFailed
	}
	return ExitOK
}

// Manual is docs/shell.md: everything programs and people may rely on, made from the
// tables.
func Manual() string {
	var b strings.Builder
	b.WriteString(manualHead)
	b.WriteString("## Exit codes\n\n| code | when |\n| --- | --- |\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "| %d | %s |\n", e.code, e.when)
	}
	b.WriteString("\n`EXIT n` gives n.\n\n## Answers as JSON\n\n" + manualJSON)
	for _, t := range []struct {
		title string
		of    any
	}{
		{"a connection: `status con 1`; an array of them: `status con *`, `status`", control.Connection{}},
		{"`connect`", control.ConnectReply{}},
		{"`repset display`; an array of them: `repset list`", shownSet{}},
		{"an array: `status target`", control.Replica{}},
		{"an array: `status source`", control.Capture{}},
		{"an array: `environment`", control.Machine{}},
		{"`get`, `set`; an array of them: `get *`", control.Setting{}},
		{"an array: `logviewer`, the events of docs/operate/events.md", control.Event{}},
		{"`repset save`", control.SavedRepset{}},
		{"`queuetask`", control.TaskReply{}},
		{"an array: `status tasks`", control.TaskInfo{}},
		{"`points` of a task", control.TaskPoint{}},
		{"`statslog`", control.Statslog{}},
		{"`dtstat`; docs/operate/statistics.md explains the figures", control.Stats{}},
		{"`ping`", control.Version{}},
		{"`repset calculate`", control.Size{}},
		{"behind `error`: a statement that failed", PrintedError{}},
	} {
		fmt.Fprintf(&b, "- %s: %s\n", t.title, strings.Join(fields(reflect.TypeOf(t.of)), ", "))
	}
	b.WriteString("\n`write`, `getlocal`, `getenvstr` and `timenow` answer `{\"value\": ...}`.\n")
	manualSettings(&b)
	manualCommands(&b)
	manualCodes(&b)
	return b.String()
}

// fields are the JSON names of a struct.
func fields(t reflect.Type) []string {
	var out []string
	for f := range t.Fields() {
		if f.Anonymous {
			out = append(out, fields(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out = append(out, "`"+name+"`")
	}
	return out
}

func manualSettings(b *strings.Builder) {
	b.WriteString("\n## Settings of the shell\n\n`GETLOCAL` and `SETLOCAL`; they last as long as the session. The names of docs/settings.md are kept, too; the shell does not go by them.\n\n| name | values | meaning |\n| --- | --- | --- |\n")
	for _, s := range localSettings {
		fmt.Fprintf(b, "| %s | %d to %d | %s |\n", s.name, s.least, s.max, s.help)
	}
}

func manualCommands(b *strings.Builder) {
	b.WriteString("\n## Commands\n\nIn syntax lines `<x>` is a value, `[x]` may be left out, `[a | b] ...` is any of them in any order, divided\nby blanks or commas; `=` may always be left out.\n")
	for i := range syntax.Commands {
		c := &syntax.Commands[i]
		fmt.Fprintf(b, "\n### %s\n\n%s.\n\n", c.Name, strings.ToUpper(c.Help[:1])+c.Help[1:])
		for _, s := range c.Syntax() {
			b.WriteString("    " + s + "\n")
		}
		b.WriteString("\n")
		if c.Note != "" {
			b.WriteString(c.Note + "\n\n")
		}
		if len(c.Aliases) > 0 {
			fmt.Fprintf(b, "Also written: %s. ", strings.Join(c.Aliases, ", "))
		}
		fmt.Fprintf(b, "Level: %s. Returns: %s.", c.Level, returns(c))
		if list := codesOf(c); list != "" {
			b.WriteString(" Codes: " + list + ".")
		}
		fmt.Fprintf(b, " Example: `%s`\n", c.Example)
	}
}

// codesOf lists what refusals mean for one command.
func codesOf(c *syntax.Command) string {
	var out []string
	for from, to := range c.Codes {
		out = append(out, fmt.Sprintf("%d (%s)", to, from))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func manualCodes(b *strings.Builder) {
	b.WriteString("\n## Codes\n\nA failing statement returns one of these.\n\n| code | meaning |\n| --- | --- |\n")
	var codes []int
	for c := range syntax.Texts {
		codes = append(codes, int(c))
	}
	slices.Sort(codes)
	slices.Reverse(codes)
	for _, c := range codes {
		fmt.Fprintf(b, "| %d | %s |\n", c, syntax.Texts[syntax.Code(c)])
	}
	b.WriteString("\nWhat a node says, and the code that becomes of it where a command names no other:\n\n| node | code |\n| --- | --- |\n")
	var names []string
	for c := range commonCodes {
		names = append(names, string(c))
	}
	slices.Sort(names)
	for _, n := range names {
		fmt.Fprintf(b, "| `%s` | %d |\n", n, commonCodes[control.Code(n)])
	}
}

const manualHead = "# The shell\n\n" + `This page is made from the shell's tables; ` + "`go test ./dtclsh/interp -run Manual -update`" + ` writes it.

    dtclsh --data DIR                        at a prompt, with the daemon whose data directory is DIR
    dtclsh --data DIR -t                     on a full screen (docs/operate/textclient.md)
    dtclsh --data DIR -c 'COMMANDS'          commands of the command line
    dtclsh --data DIR -f SCRIPT              a script
    dtclsh --data DIR < SCRIPT               the same
    dtclsh -s HOST[:PORT] -u USER            another machine's daemon, as a user of that machine
    dtclsh --key FILE                        with a key made by: understudy key add

| option | meaning |
| --- | --- |
| ` + "`-i`" + ` | a prompt, even if the input is no terminal; the prompt is bare |
| ` + "`-t`" + ` | on a full screen (docs/operate/textclient.md) |
| ` + "`--json`" + ` | every answer is one JSON object or array on a line of its own |
| ` + "`--stop-on-error`" + ` | a failing statement ends the script, also one whose value is assigned |
| ` + "`--strict`" + ` | an unknown option of a command is an error, not a warning |
| ` + "`--check`" + ` | parse the script, run nothing |
| ` + "`--password-file FILE`" + ` | with ` + "`-u`" + `: the password is the first line of the file, which may be ` + "`/dev/fd/N`" + `; else it is asked for at the terminal |
| ` + "`--trust KEY`" + ` | the key of the machine, from ` + "`understudy pair list`" + ` there; it is remembered |

Answers go to standard output, errors and warnings to standard error; with ` + "`--json`" + ` errors are answers too. In a
script, commands without an answer of their own say nothing, and a command whose value is assigned
(` + "`$con = connect ...`" + `) prints nothing but errors.

## The language

One statement a line; ` + "`;`" + ` divides statements on one line, ` + "`#`" + ` begins a comment. Keywords are taken in any case and
may be cut to three letters or more where only one keyword is meant. A value that holds anything but letters, digits
and ` + "`/ . - * ? : _`" + ` stands in quotation marks; a quotation mark inside is doubled; a backslash is an ordinary
character. Nothing of a script is run unless all of it parses.

| | |
| --- | --- |
| assignment | ` + "`$name = expression`" + `, ` + "`$name = command`" + `; names regardless of case |
| values | integers, strings, dates ` + "`mm/dd/yy`" + `, times ` + "`hh:mm`" + ` |
| operators | ` + "`NOT -`, `* /`, `+ -`, `= <> < > <= >=`, `AND`, `OR`" + `, tightest first; ` + "`+`" + ` joins strings; ` + "`== != && \\|\\|`" + ` are taken too |
| truth | a number above 0, a string that is not empty |
| test | ` + "`IF condition THEN ... [ELSE ...] END`" + ` |
| loops | ` + "`WHILE condition DO ... END`" + `, ` + "`FOR $n = 1; $n < 5; $n = $n + 1 DO ... END`" + `, ` + "`FOR $n = 1 TO 5 [STEP 2] DO ... END`" + ` |

In an expression two digits each make a date: ` + "`03/31/08`" + ` is one, ` + "`3/31/8`" + ` divides. ` + "`END ELSE ENDIF ENDWHILE ENDFOR`" + ` as
bare words end a block; as a value they stand in quotation marks.

Errors are values: a failing statement prints its code and the script goes on; ` + "`IF $con < 0 THEN`" + ` tests it. ` + "`*`" + ` in
place of a connection number means every connection of the source. Without SOURCE the source is the machine the shell
was started for.

A password on a command line can be seen by others in the list of processes; put it into a script only its owner may read.

`

const manualJSON = `One JSON value a line, in the order of the statements. Fields may be added, none is renamed or removed.

`
