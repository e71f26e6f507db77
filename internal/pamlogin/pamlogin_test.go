package pamlogin

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "pam-helper" {
		if err := Helper(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// service installs the service file of the package, if this machine has none.
func service(t *testing.T) {
	t.Helper()
	const file = "/etc/pam.d/" + Service
	if _, err := os.Stat(file); err == nil {
		return
	}
	text, err := os.ReadFile("../../ops/pam.d/understudy")
	if err == nil {
		err = os.WriteFile(file, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(file) })
}

func run(t *testing.T, in string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// TestPasswordsAreCheckedByTheSystem: a user of this machine logs in with its password;
// a wrong one, an empty one, an unknown user and a locked or expired account do not.
func TestPasswordsAreCheckedByTheSystem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making a user takes root")
	}
	if _, err := exec.LookPath("useradd"); err != nil {
		t.Skip("no useradd here")
	}
	service(t)
	user := fmt.Sprintf("ustest%d", os.Getpid())
	run(t, "", "useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", user)
	t.Cleanup(func() { run(t, "", "userdel", user) })
	const password = "s3cret: of this test"
	run(t, user+":"+password+"\n", "chpasswd")
	helper := []string{os.Args[0], "pam-helper"}
	name, err := Check(t.Context(), helper, user, password)
	if errors.Is(err, ErrUnavailable) {
		t.Skip("this build cannot check passwords: ", err)
	}
	if err != nil || name != user {
		t.Fatalf("right password: %q, %v", name, err)
	}
	denied := func(what, user, password string) {
		t.Helper()
		if name, err := Check(t.Context(), helper, user, password); !errors.Is(err, ErrDenied) {
			t.Errorf("%s: %q, %v", what, name, err)
		}
	}
	denied("wrong password", user, password+"x")
	denied("empty password", user, "")
	denied("unknown user", "nobody-of-this-name", password)
	denied("overlong", strings.Repeat("x", MaxText+1), password)
	denied("NUL", user+"\x00root", password)
	run(t, "", "chage", "--expiredate", "1", user)
	denied("expired account", user, password)
	run(t, "", "chage", "--expiredate", "-1", user)
	run(t, "", "usermod", "--lock", user)
	denied("locked", user, password)
}

// TestHelperMisbehaves: whatever a helper says or does not say, nobody is let in by it.
func TestHelperMisbehaves(t *testing.T) {
	for _, script := range []string{"exit 1", "exit 0", "echo okay", "echo ok", "echo; echo ok root", "kill -9 $$", "yes | head -c 100000"} {
		if name, err := Check(t.Context(), []string{"/bin/sh", "-c", script}, "bob", "x"); err == nil {
			t.Errorf("%s: let in as %q", script, name)
		}
	}
	if _, err := Check(t.Context(), nil, "bob", "x"); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

// FuzzDecode: any input of the helper is a login or an error.
func FuzzDecode(f *testing.F) {
	f.Add(encode("bob", "secret"))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		user, password, err := decode(bytes.NewReader(in))
		if err == nil && (len(user) > MaxText || len(password) > MaxText) {
			t.Fatal(len(user), len(password))
		}
	})
}
