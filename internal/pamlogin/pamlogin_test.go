package pamlogin

import (
	"bytes"
	"errors"
	"os"
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
