package syntax

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// TestPrint: what is written, and how it is printed. Everything printed is read again
// and gives the same nodes.
func TestPrint(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`source indy`, `SOURCE indy`},
		{`  SOURCE   10.0.0.1  # the old one`, `SOURCE 10.0.0.1`},
		{`repset create tree; repset save`, "REPSET CREATE tree\nREPSET SAVE"},
		{`repset rule add "/srv/tree" include, recursive to tree`, `REPSET RULE ADD "/srv/tree" INCLUDE, RECURSIVE TO tree`},
		{`reps rul add /srv/*.tmp exc rec`, `REPSET RULE ADD /srv/*.tmp EXCLUDE RECURSIVE`},
		{`repset rule add "/a""b#c;d" nonrec`, `REPSET RULE ADD "/a""b#c;d" NONRECURSIVE`},
		{`$con = connect tree to jersey map "/srv/tree" to "/srv/replica"`, `$con = CONNECT tree TO jersey MAP "/srv/tree" TO "/srv/replica"`},
		{`connect p to o map /a to /b, map /c to /d mirror different, checksum`, `CONNECT p TO o MAP /a TO /b, MAP /c TO /d MIRROR DIFFERENT, CHECKSUM`},
		{`connect p to o map exact nomirror autodisconnect`, `CONNECT p TO o MAP EXACT NOMIRROR autodisconnect`},
		{`connect p to o history 72h, mirror history 14d, 500GB map exact`, `CONNECT p TO o HISTORY 72h, MIRROR HISTORY 14d, 500GB MAP EXACT`},
		{`connect p to o history off /a to /b`, `CONNECT p TO o HISTORY off /a TO /b`},
		{`connect p to tdu "x.sts"`, `CONNECT p TO TDU "x.sts"`},
		{`connect p to o map base /all`, `CONNECT p TO o MAP BASE /all`},
		{`wait on mirror *`, `WAITONMIRROR *`},
		{`waitonmir $con`, `WAITONMIRROR $con`},
		{`pause target orion from nova`, `PAUSETARGET orion FROM nova`},
		{`status con *`, `STATUS CONNECTION *`},
		{`status`, `STATUS`},
		{`logon 198.51.100.20 repl "pw-two"`, `LOGIN 198.51.100.20 repl "pw-two"`},
		{`log off x`, `LOGOUT x`},
		{`get local waitunit`, `GETLOCAL waitunit`},
		{`get autoreconnect on orion`, `GET autoreconnect ON orion`},
		{`set autoreconnect = 1`, `SET autoreconnect = 1`},
		{`set autoreconnect 1`, `SET autoreconnect 1`},
		{`set orion autoreconnect = 1`, `SET orion autoreconnect = 1`},
		{`setl waitunit = 1000`, `SETLOCAL waitunit = 1000`},
		{`limit bandwidth 19300, 1 to orion`, `LIMIT BANDWIDTH 19300, 1 TO orion`},
		{`schedule orion start starttime = 03/31/08 22:00 every 1 days queuesize=10485760`, `SCHEDULE orion START STARTTIME = 03/31/08 22:00 EVERY 1 DAYS QUEUESIZE = 10485760`},
		{`schedule orion end bytelimit = 50000000`, `SCHEDULE orion END BYTELIMIT = 50000000`},
		{`sched orion window 21:00 04:00`, `SCHEDULE orion WINDOW 21:00 04:00`},
		{`queuetask n to o onexecute = "/s.sh" "a b" timeout = 10 min onq /x`, `QUEUETASK n TO o ONEXECUTE = "/s.sh" "a b" TIMEOUT = 10 MINUTES ONQUEUE /x`},
		{`queuetask n to o onrec /x timeout forever`, `QUEUETASK n TO o ONRECEIVE /x TIMEOUT FOREVER`},
		{`monitor script add prefailback "/opt/up.sh" one two nodelay`, `MONITOR SCRIPT ADD PREFAILBACK "/opt/up.sh" one two NODELAY`},
		{`dtstat -f a.sts -IP 198.51.100.1,nova -p`, `DTSTAT -f a.sts -IP 198.51.100.1, nova -p`},
		{`logviewer -f -c; logviewer -f /x/y -e 4000,4001`, "LOGVIEWER -f -c\nLOGVIEWER -f /x/y -e 4000, 4001"},
		{`monitor script add postfailover = "/opt/up.sh" args = "nova web" delay`, `MONITOR SCRIPT ADD POSTFAILOVER = "/opt/up.sh" ARGS = "nova web" DELAY`},
		{`monitor option moveaddresses nomovename nova`, `MONITOR OPTION MOVEADDRESSES NOMOVENAME nova`},
		{`failback nova, continue`, `FAILBACK nova, CONTINUE`},
		{`$r = restore $set from $spare usetargetdb newer, checksum`, `$r = RESTORE $set FROM $spare USETARGETDB NEWER, CHECKSUM`},
		{`$v = getenvstr("HOME")`, `$v = GETENVSTR ( "HOME" )`},
		{`getenvstr HOME $v`, `GETENVSTR HOME $v`},
		{`dtstat -f statistic.sts -s conns.csv`, `DTSTAT -f statistic.sts -s conns.csv`},
		{`write "a" $b 5 12:30, 03/31/08`, `WRITE "a" $b 5 12:30, 03/31/08`},
		{`wait 5 seconds`, `WAIT 5 SECONDS`},
		{`monitor add 198.51.100.10 interval = 0.2 missed=5`, `MONITOR ADD 198.51.100.10 INTERVAL = 0.2 MISSED = 5`},
		{`?`, `HELP`},
		{`help repset save`, `HELP repset save`},
		{`$a = 1 + 2 * 3`, `$a = 1 + 2 * 3`},
		{`$a = (1 + 2) * -$b`, `$a = (1 + 2) * -$b`},
		{`$a=1-(2-3)`, `$a = 1 - (2 - 3)`},
		{`$a = 10/2`, `$a = 10 / 2`},
		{`$a = 03/31/08`, `$a = 03/31/08`},
		{`$a = not $b && $c <> "x" || $d != 12:30`, `$a = NOT $b AND $c <> "x" OR $d <> 12:30`},
		{`$home = "nova"`, `$home = "nova"`},
		{"if $rc < 0 then write 1 else write 2 end", "IF $rc < 0 THEN\n  WRITE 1\nELSE\n  WRITE 2\nEND"},
		{"if $rc then\n\n write 1;write 2\nendif", "IF $rc THEN\n  WRITE 1\n  WRITE 2\nEND"},
		{"while $rc < 0 and $try < 4 do\r\n  wait 5 seconds\r\nend", "WHILE $rc < 0 AND $try < 4 DO\n  WAIT 5 SECONDS\nEND"},
		{"for $n = 1 $n < 4 $n = $n + 1 do write $n end", "FOR $n = 1; $n < 4; $n = $n + 1 DO\n  WRITE $n\nEND"},
		{"for ($n = 1; $n < 4; $n = $n + 1) do end", "FOR $n = 1; $n < 4; $n = $n + 1 DO\nEND"},
		{"for $n = 1 to 5 step 2 do if $n = 3 then exit end end", "FOR $n = 1 TO 5 STEP 2 DO\n  IF $n = 3 THEN\n    EXIT\n  END\nEND"},
		{";;\n;", ""},
	} {
		s, err := Parse(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if got := strings.TrimSuffix(s.String(), "\n"); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.in, got, c.want)
		}
		checkStable(t, s)
	}
}

// checkStable: parsing what is printed gives the same nodes.
func checkStable(t *testing.T, s Script) {
	t.Helper()
	text := s.String()
	again, err := Parse(text)
	if err != nil {
		t.Fatalf("printed text does not parse: %v\n%s", err, text)
	}
	if !same(reflect.ValueOf(s), reflect.ValueOf(again)) {
		t.Fatalf("printed text parses to something else:\n%s\n%s", text, again)
	}
}

// same compares nodes but for their places.
func same(a, b reflect.Value) bool {
	if a.Kind() != b.Kind() || a.IsValid() && a.Type() != b.Type() {
		return false
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Interface:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		if a.Type() == reflect.TypeFor[*Command]() {
			return a.Pointer() == b.Pointer()
		}
		return same(a.Elem(), b.Elem())
	case reflect.Slice:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Struct:
		for i := range a.NumField() {
			if a.Field(i).Type() != reflect.TypeFor[Pos]() && !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	}
	return !a.IsValid() || a.Equal(b)
}

// TestErrors: each says where, what was found and what would have been right.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		in, want string
		code     Code
	}{
		{`connect tree jersey`, `line 1, column 14: expected TO, found jersey`, BadSyntax},
		{"source indy\n  frobnicate now", `line 2, column 3: unknown command frobnicate`, BadSyntax},
		{`rep list`, `column 1: rep may stand for REPLAY, REPLICATION or REPSET`, BadSyntax},
		{`res x`, `RESTORE or RESUMETARGET`, BadSyntax},
		{`sta`, `STATSLOG or STATUS`, BadSyntax},
		{`fai x`, `FAILBACK or FAILOVER`, BadSyntax},
		{`log x`, `LOGIN, LOGOUT or LOGVIEWER`, BadSyntax},
		{`repset rule add /x inc to`, `expected the name of a replication set, found the end of the script`, BadSyntax},
		{`mirror start tree`, `column 14: expected a connection number or *, found tree`, BadParameter},
		{`source`, `expected the name or address of a machine, found the end of the script`, BadSyntax},
		{`repset list all`, `column 13: expected the end of the statement, found all`, BadSyntax},
		{`connect a to b map "/x" too "/y"`, `column 25: expected TO, found too`, BadSyntax},
		{`schedule o start starttime = 31/31/08 22:00`, `expected a date mm/dd/yy, found 31/31/08`, BadDate},
		{`schedule o window opentime = 25:00`, `expected a time hh:mm, found 25:00`, BadTime},
		{`write "abc`, `column 7: string without a closing "`, BadSyntax},
		{`$ = 1`, `column 1: $ without the name of a variable`, BadSyntax},
		{`$a 1`, `column 4: expected =, found 1`, BadSyntax},
		{`$a = `, `expected a number, a string in quotation marks, a variable, a date or a time, found the end`, BadSyntax},
		{`$a = (1`, `expected ), found the end`, BadSyntax},
		{`$a = 99999999999999999999`, `too large`, BadParameter},
		{`if $a write 1 end`, `column 7: expected THEN, found write`, BadSyntax},
		{"if $a then\nwrite 1", `line 2, column 8: expected END, found the end of the script`, BadSyntax},
		{"while 1 do else end", `expected END, found else`, BadSyntax},
		{`end`, `expected a statement, found end`, BadSyntax},
		{`source "é" é extra`, `column 12: expected the end of the statement, found é`, BadSyntax},
		{"source \x01", `character '\x01' outside of quotation marks`, BadSyntax},
		{strings.Repeat("if 1 then ", 200), `more than 100 blocks`, BadSyntax},
		{"$a = " + strings.Repeat("(", 200), `more than 100 blocks`, BadSyntax},
		{"$a = " + strings.Repeat("-", 200), `more than 100 blocks`, BadSyntax},
		{strings.Repeat(" ", MaxScript+1), `at most 1048576`, BadSyntax},
	} {
		_, err := Parse(c.in)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) || e.Code != c.code {
			t.Errorf("%.60s\n got %v\nwant %s", c.in, err, c.want)
		}
	}
}

func TestIncomplete(t *testing.T) {
	for in, want := range map[string]bool{
		"if $a then\n": true, "while 1 do\n write 1\n": true, "for $n = 1 to 3 do\n": true,
		"if $a\n": false, "source\n": false, "write 1\n": false, "end\n": false, "if 1 then\nsource\n": false,
	} {
		if _, err := Parse(in); Incomplete(err) != want {
			t.Errorf("%q: %v, want %v", in, err, want)
		}
	}
}

// TestTable: every row is in order, complete, and its example is what it says.
func TestTable(t *testing.T) {
	last := ""
	for i := range Commands {
		c := &Commands[i]
		if c.Name <= last {
			t.Errorf("%s stands after %s", c.Name, last)
		}
		last = c.Name
		if c.Help == "" || c.Example == "" || strings.HasSuffix(c.Help, ".") {
			t.Errorf("%s: help %q, example %q", c.Name, c.Help, c.Example)
		}
		for _, code := range c.Codes {
			if Texts[code] == "" {
				t.Errorf("%s: code %d has no text", c.Name, code)
			}
		}
		s, err := Parse(c.Example)
		if err != nil || len(s) != 1 {
			t.Errorf("%s: example: %v", c.Name, err)
			continue
		}
		call, _ := s[0].(*Call)
		if a, ok := s[0].(*Assign); ok {
			call = a.Call
		}
		if call == nil || call.Cmd != c {
			t.Errorf("%s: its example %s is something else", c.Name, c.Example)
		}
		checkStable(t, s)
	}
}

// TestAbbreviations: the first words of all commands may be cut to three letters,
// save those the language rejects as ambiguous.
func TestAbbreviations(t *testing.T) {
	ambiguous := map[string]bool{"REP": true, "RES": true, "STA": true, "FAI": true, "LOG": true, "GET": true, "SET": true, "WAI": true}
	for i := range Commands {
		c := &Commands[i]
		word, _, _ := strings.Cut(c.Name, " ")
		if len(word) < 4 || ambiguous[word[:3]] {
			continue
		}
		fields := strings.Fields(c.Example)
		at := 0
		if fields[0][0] == '$' {
			at = 2
		}
		fields[at] = strings.ToLower(word[:3])
		short := strings.Join(fields, " ")
		s, err := Parse(short)
		if err != nil {
			t.Errorf("%s: %v", short, err)
			continue
		}
		want, _ := Parse(c.Example)
		if s.String() != want.String() {
			t.Errorf("%s is %s", short, s)
		}
	}
}

// FuzzParse: no input makes the parser panic, and what it accepts is stable.
func FuzzParse(f *testing.F) {
	for i := range Commands {
		f.Add(Commands[i].Example)
	}
	for _, s := range []string{"for $n = 1 $n < 4 $n = $n + 1 do write $n end", "if not $a = 03/31/08 then\nelse # x\nend", "$a = 1 - -(2 / 3) && \"x\"\"y\"",
		"write 1 end", "schedule x clear end", "get local x", "wait on mirror *", "while 1 do schedule o end\nend"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		Next(text)
		s, err := Parse(text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Pos.Line < 1 || e.Pos.Col < 1 || e.Text() == "" {
				t.Fatalf("%q: %#v", text, err)
			}
			return
		}
		checkStable(t, s)
	})
}
