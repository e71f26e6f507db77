package pamlogin_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"understudy/internal/pamlogin"
	"understudy/internal/testlogin"
)

// TestPasswordsAreCheckedByTheSystem: a user of this machine logs in with its password;
// a wrong one, an empty one, an unknown user and a locked or expired account do not.
func TestPasswordsAreCheckedByTheSystem(t *testing.T) {
	m := testlogin.Take(t)
	m.WithService()
	if err := pamlogin.Probe(t.Context(), []string{os.Args[0], "pam-helper"}); err != nil {
		t.Fatal(err)
	}
	const password = "s3cret: of this test"
	user := m.User(password)
	helper := []string{os.Args[0], "pam-helper"}
	name, err := pamlogin.Check(t.Context(), helper, user, password)
	if errors.Is(err, pamlogin.ErrUnavailable) {
		t.Skip("this build cannot check passwords: ", err)
	}
	if err != nil || name != user {
		t.Fatalf("right password: %q, %v", name, err)
	}
	denied := func(what, user, password string) {
		t.Helper()
		if name, err := pamlogin.Check(t.Context(), helper, user, password); !errors.Is(err, pamlogin.ErrDenied) {
			t.Errorf("%s: %q, %v", what, name, err)
		}
	}
	var wait sync.WaitGroup // PAM takes its time for each
	wait.Go(func() { denied("wrong password", user, password+"x") })
	wait.Go(func() { denied("empty password", user, "") })
	wait.Go(func() { denied("unknown user", "nobody-of-this-name", password) })
	wait.Go(func() { denied("overlong", strings.Repeat("x", pamlogin.MaxText+1), password) })
	wait.Go(func() { denied("NUL", user+"\x00root", password) })
	wait.Wait()
	m.Run("", "chage", "--expiredate", "1", user)
	denied("expired account", user, password)
	m.Run("", "chage", "--expiredate", "-1", user)
	m.Run("", "usermod", "--lock", user)
	denied("locked", user, password)
}

// TestOtherLetsNobodyIn: with PAM itself, a service without a file lets nobody in, whom
// the service "other" would let in.
func TestOtherLetsNobodyIn(t *testing.T) {
	m := testlogin.Take(t)
	m.WithoutService()
	user := m.User("s3cret: of this test")
	helper := []string{os.Args[0], "pam-helper"}
	if err := pamlogin.Probe(t.Context(), helper); !errors.Is(err, pamlogin.ErrUnavailable) || !strings.Contains(err.Error(), "run: understudy pam-install") {
		t.Errorf("probe: %v", err)
	}
	name, err := pamlogin.Check(t.Context(), helper, user, "s3cret: of this test")
	if !errors.Is(err, pamlogin.ErrUnavailable) {
		t.Fatalf("without a service file: %q, %v", name, err)
	}
	if n := strings.Count(fmt.Sprint(err), pamlogin.ErrUnavailable.Error()); n != 1 {
		t.Errorf("said %d times: %v", n, err)
	}
}
