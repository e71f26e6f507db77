package console

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSecret(t *testing.T) {
	for line, want := range map[string]bool{
		`login nova repl "pw"`: true, `LOGON nova repl pw`: true, `$a = login x y z`: true, `log in x y z`: true, `logi x y z`: true,
		"if 1 then\n logon x y z\nend\n": true, `$password = "x"`: true,
		`status con *`: false, `repset create catalog`: false, `logviewer -c`: false, `logout x`: false,
	} {
		if Secret(line) != want {
			t.Errorf("%q: want %v", line, want)
		}
	}
}

func TestHistory(t *testing.T) {
	env := map[string]string{"HOME": "/home/u"}
	get := func(k string) string { return env[k] }
	if got := HistoryFile(get); got != "/home/u/.local/state/understudy/dtclsh_history" {
		t.Error(got)
	}
	env["XDG_STATE_HOME"] = t.TempDir()
	file := HistoryFile(get)
	for _, text := range []string{"one\n", "two\n"} {
		if err := writeHistory(file, func(f *os.File) error { _, err := f.WriteString(text); return err }); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		st, _ := os.Stat(file)
		if err != nil || string(got) != text || st.Mode().Perm() != 0o600 {
			t.Errorf("%q, %v, %v", got, st.Mode(), err)
		}
	}
	if left, _ := filepath.Glob(filepath.Dir(file) + "/.history-*"); len(left) > 0 {
		t.Error("left over", left)
	}
	if got := OneLine("if 1 then\n write 1\nend\n"); got != "if 1 then; write 1; end" {
		t.Error(got)
	}
	if got := OneLine("if 1 then # why\nend\n"); got != "" {
		t.Error(got)
	}
}

// names stands for machines that are asked.
type names struct{}

func (names) Names(context.Context) (sets, cons, machines []string) {
	return []string{"tree", "my set"}, []string{"1", "12"}, []string{"indy", "jersey"}
}
func (names) Monitors(context.Context) []string { return []string{"nova"} }
func (names) Paths(_ context.Context, prefix string) []string {
	return fitting(prefix, "/srv/", "/srv/pay/", "/srv/pay/a b", "/srv/pay/db", "/srv/pay/bad\n")
}
func (names) TargetPaths(_ context.Context, target, prefix string) []string {
	return fitting(prefix, "/on/"+target+"/")
}

func fitting(prefix string, list ...string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return !strings.HasPrefix(s, prefix) })
}

func TestComplete(t *testing.T) {
	c := &Completer{namer: names{}}
	for in, want := range map[string]string{
		"reps": "repset ", "repset l": "list ", "REPSET RU": "RULE ", "source j": "jersey ", "connect t": "tree ", "connect tree to jer": "jersey ",
		"waitonmirror ": "* ,1 ,12 ", "disconnect 12": "12 ", "repset use ": `tree ,"my set" `, `repset use "m`: `"my set" `, "status con": "connection ", "write \"abc re": "",
		"$c = conn": "connect ", "help repset sa": "", "if $c < 0 then disc": "disconnect ", "monitor use ": "nova ",
		"getlocal cl": "ClientLog ", "set moveorphansd": "MoveOrphansDir ",
		"mount /s": "/srv/,/srv/pay/,/srv/pay/db ,\"/srv/pay/a b\" ", "mount s": "", `repset rule add "/srv/pay/d`: `"/srv/pay/db" `, `repset rule add "/srv/p`: `"/srv/pay/,"/srv/pay/a b" ,"/srv/pay/db" `,
		`repset rule add "/srv/pay/a b`: `"/srv/pay/a b" `, `connect tree to jersey map "/srv/pay" to "/o`: `"/on/jersey/`, "connect tree to jersey map base /on": "/on/jersey/",
		`write "a" "b`: "",
	} {
		head, list, tail := c.Complete(in+"|", len(in))
		slices.Sort(list)
		w := strings.Split(want, ",")
		slices.Sort(w)
		if want == "" {
			w = nil
		}
		if !slices.Equal(list, w) || tail != "|" || !strings.HasPrefix(in, head) {
			t.Errorf("%q: %q, want %q (head %q, tail %q)", in, list, w, head, tail)
		}
	}
}

func TestProgressFits(t *testing.T) {
	for text, want := range map[string]string{"short": "short", "too long for it": "too long", "a\x1b[2Jb": "a?[2Jb", "äöüäöüäöü": "äöüäöüäö", "": ""} {
		if got := fit(text, 8); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
