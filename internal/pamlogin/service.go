package pamlogin

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// PAM takes the rules of the service "other" where the file of a service is missing or
// has none of a kind. What those allow is anybody's guess: on many systems everybody
// with a password. So logins are refused until the service has rules of its own.

// serviceDir is where PAM looks first. A file elsewhere is not taken: not every PAM
// reads it, and the others would go on to "other".
const serviceDir = "/etc/pam.d"

// maxServiceFile bounds a service file in bytes, maxIncludes how deep they include.
const (
	maxServiceFile = 64 << 10
	maxIncludes    = 8
)

// ready reports whether the service in dir has rules of its own for passwords and for
// accounts.
func ready(dir string) error {
	file := filepath.Join(dir, Service)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no %s; run: understudy pam-install", ErrUnavailable, file)
	}
	for _, kind := range []string{"auth", "account"} {
		found, err := hasRule(dir, Service, kind, maxIncludes)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if !found {
			return fmt.Errorf("%w: %s has no %s line", ErrUnavailable, file, kind)
		}
	}
	return nil
}

// hasRule reports whether a service file, or one it includes, has a rule of a kind.
func hasRule(dir, name, kind string, depth int) (bool, error) {
	if depth == 0 {
		return false, fmt.Errorf("%s: included too deeply", filepath.Join(dir, name))
	}
	text, err := readService(dir, name)
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		include := ""
		switch {
		case len(f) == 2 && strings.EqualFold(f[0], "@include"):
			include = f[1]
		case len(f) < 3 || !strings.EqualFold(strings.TrimPrefix(f[0], "-"), kind):
			continue
		case strings.EqualFold(f[1], "include"), strings.EqualFold(f[1], "substack"):
			include = f[2]
		default:
			return true, nil
		}
		if found, err := hasRule(dir, include, kind, depth-1); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

func readService(dir, name string) (string, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	st, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	if !st.Mode().IsRegular() || st.Size() > maxServiceFile {
		return "", fmt.Errorf("%s is no file of at most %d bytes", name, maxServiceFile)
	}
	raw, err := os.ReadFile(name)
	return string(raw), err
}

// systems are the rules that systems keep for their own logins: of Debian, Ubuntu and
// SUSE; of Red Hat and Fedora; of Arch; of Alpine.
var systems = []struct{ auth, account string }{
	{"common-auth", "common-account"}, {"password-auth", "password-auth"}, {"system-auth", "system-auth"}, {"base-auth", "base-account"},
}

// ErrInstalled: the service has a file; it is left as it is.
var ErrInstalled = errors.New("exists, and is left as it is")

// Install writes the service's file: who may log in to the system may log in here. It
// returns the file's name, with ErrInstalled if there was one.
func Install() (file string, err error) { return install(serviceDir) }

func install(dir string) (file string, err error) {
	file = filepath.Join(dir, Service)
	if _, err := os.Lstat(file); err == nil {
		return file, ErrInstalled
	}
	for _, s := range systems {
		_, err1 := readService(dir, s.auth)
		_, err2 := readService(dir, s.account)
		if err1 == nil && err2 == nil {
			return file, writeService(file, s.auth, s.account)
		}
	}
	return file, fmt.Errorf("no rules for logins of this system in %s; write %s by hand, see ops/pam.d/understudy", dir, file)
}

// writeService writes the file as a whole: PAM reads it at any time.
func writeService(file, auth, account string) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Who may log in to understudy with a password: who may log in to this system.\n"+
		"# The level (admin, monitor, none) comes from the groups dtadmin and dtmon.\n"+
		"auth     include %s\naccount  include %s\n", auth, account)
	f, err := os.CreateTemp(filepath.Dir(file), ".understudy-*")
	if err != nil {
		return fmt.Errorf("install PAM service: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b.Bytes())
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Link(f.Name(), file) // not over one that came meanwhile
	}
	if errors.Is(err, fs.ErrExist) {
		return ErrInstalled
	}
	if err != nil {
		return fmt.Errorf("install PAM service: %w", err)
	}
	return nil
}
