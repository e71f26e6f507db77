package pamlogin

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRulesOfOthersAreNotTaken: where PAM would fall back to the rules of the service
// "other", because ours has no file or no line of a kind, no password is checked.
func TestRulesOfOthersAreNotTaken(t *testing.T) {
	for _, c := range []struct {
		name string
		text string // of the service; "": no file
		want string // "": it is ready
	}{
		{"no file", "", "run: understudy pam-install"},
		{"plain", "auth required pam_unix.so\naccount required pam_unix.so\n", ""},
		{"included", "auth include both\naccount substack both\n", ""},
		{"included as a whole", "@include both\n", ""},
		{"optional module", "-auth [success=1 default=ignore] pam_x.so\nACCOUNT required pam_unix.so\n", ""},
		{"continued", "auth \\\n required pam_unix.so\naccount required pam_unix.so\n", ""},
		{"no account", "auth required pam_unix.so\nsession required pam_unix.so\n", "has no account line"},
		{"no auth", "account required pam_unix.so\n", "has no auth line"},
		{"comments only", "# auth required pam_unix.so\n#account required pam_unix.so\n", "has no auth line"},
		{"included for nothing", "auth include sessions\naccount required pam_unix.so\n", "has no auth line"},
		{"included and missing", "auth include nowhere\n", "nowhere"},
		{"included in a circle", "@include understudy\n", "too deeply"},
		{"endless", strings.Repeat("#\n", maxServiceFile), "no file of at most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "other", "auth required pam_permit.so\naccount required pam_permit.so\n")
			write(t, dir, "both", "auth required pam_unix.so\naccount required pam_unix.so\n")
			write(t, dir, "sessions", "session required pam_unix.so\n")
			if c.text != "" {
				write(t, dir, Service, c.text)
			}
			err := ready(dir)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (!errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
}

// TestInstall: the file fits the system, is there as a whole, and never replaces one.
func TestInstall(t *testing.T) {
	for _, names := range [][]string{{"common-auth", "common-account"}, {"password-auth"}, {"system-auth"}, {"base-auth", "base-account"}} {
		dir := t.TempDir()
		if _, err := install(dir); err == nil || !strings.Contains(err.Error(), "write "+dir) {
			t.Errorf("no system: %v", err)
		}
		for _, name := range names {
			write(t, dir, name, "auth required pam_unix.so\naccount required pam_unix.so\n")
		}
		file, err := install(dir)
		if err == nil {
			err = ready(dir)
		}
		if err != nil {
			t.Errorf("%s: %v", names, err)
		}
		write(t, dir, Service, "# of the operator\n")
		if again, err := install(dir); !errors.Is(err, ErrInstalled) || again != file {
			t.Errorf("again: %s, %v", again, err)
		}
		if text, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(text, []byte("# of the operator")) {
			t.Errorf("%q, %v", text, err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
			t.Errorf("left: %q, %v", left, err)
		}
	}
}

// TestShippedServiceIsReady: the file of the package has what is asked for, and is what
// pam-install writes, but for its comments.
func TestShippedServiceIsReady(t *testing.T) {
	shipped, err := os.ReadFile("../../ops/pam.d/understudy")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, "common-auth", "auth required pam_unix.so\n")
	write(t, dir, "common-account", "account required pam_unix.so\n")
	file, err := install(dir)
	if err != nil {
		t.Fatal(err)
	}
	installed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := rules(string(shipped)), rules(string(installed)); a != b {
		t.Errorf("shipped %q, installed %q", a, b)
	}
}

func rules(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			out.WriteString(line)
		}
	}
	return out.String()
}
