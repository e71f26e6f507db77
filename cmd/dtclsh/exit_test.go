package main

import (
	"bytes"
	"strings"
	"testing"

	"understudy/dtclsh/interp"
)

// TestExitCodes: what docs/shell.md promises.
func TestExitCodes(t *testing.T) {
	none := t.TempDir() // no daemon here
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"-c", "write 1"}, interp.ExitOK},
		{[]string{"-c", "status"}, interp.ExitFailed},
		{[]string{"-c", "status; write 1"}, interp.ExitOK},
		{[]string{"-c", "write $unset"}, interp.ExitFailed},
		{[]string{"-c", "exit 7"}, 7},
		{[]string{"-c", "$n = -5; exit"}, interp.ExitOK},
		{[]string{"-c", "write"}, interp.ExitUsage},
		{[]string{"--frob"}, interp.ExitUsage},
		{[]string{"-f", none + "/missing"}, interp.ExitUsage},
		{[]string{"-c", "write 1", "-f", "x"}, interp.ExitUsage},
		{[]string{"--stop-on-error", "-c", "status; write 1"}, interp.ExitStopped},
		{[]string{"--stop-on-error", "-c", "$s = status; write 1"}, interp.ExitStopped},
	} {
		var out, errOut bytes.Buffer
		if got := run(append([]string{"--data", none}, c.args...), strings.NewReader(""), &out, &errOut); got != c.want {
			t.Errorf("%v: exit code %d, want %d\n%s%s", c.args, got, c.want, &out, &errOut)
		}
	}
}
