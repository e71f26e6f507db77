// Package pamlogin checks a user's password with the operating system, in a process of
// its own: a module of PAM that crashes, hangs or changes its process does no harm to
// the daemon, and the password ends with the helper.
//
// The protocol: the helper reads user and password from its standard input, each behind
// its length as four bytes in network order; it writes one line: "ok NAME", "denied
// WHY" or "unavailable WHY".
package pamlogin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// MaxText bounds user and password in bytes.
const MaxText = 512

// Service is the name of the PAM service; its file is ops/pam.d/understudy.
const Service = "understudy"

// checkTimeout bounds one check: PAM delays after a wrong password by some seconds.
const checkTimeout = 20 * time.Second

// Errors of a check.
var (
	// ErrDenied: the user is not known, the password is wrong, or the account may not
	// be used.
	ErrDenied = errors.New("login denied")
	// ErrUnavailable: passwords cannot be checked on this machine.
	ErrUnavailable = errors.New("this machine cannot check passwords; use a key (understudy key add), or log in on the machine itself")
)

// Check asks the helper. It returns the name of the user as PAM has it, or ErrDenied,
// or ErrUnavailable.
func Check(ctx context.Context, helper []string, user, password string) (name string, err error) {
	if len(helper) == 0 {
		return "", fmt.Errorf("%w: no login command is set", ErrUnavailable)
	}
	if user == "" || len(user) > MaxText || len(password) > MaxText || strings.ContainsRune(user+password, 0) {
		return "", fmt.Errorf("%w: no such user or password", ErrDenied)
	}
	return ask(ctx, helper, user, password)
}

// Probe asks the helper for a user without a name, whom nobody has: it returns
// ErrUnavailable, with the reason, if no password can be checked here.
func Probe(ctx context.Context, helper []string) error {
	_, err := ask(ctx, helper, "", "")
	if errors.Is(err, ErrDenied) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%w: the helper lets in a user without a name", ErrUnavailable)
	}
	return err
}

// ask runs the helper once.
func ask(ctx context.Context, helper []string, user, password string) (name string, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	in := encode(user, password)
	defer clear(in)
	cmd := exec.CommandContext(ctx, helper[0], helper[1:]...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, time.Second
	cmd.Stdin = bytes.NewReader(in)
	out := &limited{max: 4 << 10}
	cmd.Stdout = out
	if err := cmd.Run(); err != nil && out.Len() == 0 {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	line, _, _ := strings.Cut(out.String(), "\n")
	verdict, rest, _ := strings.Cut(line, " ")
	switch verdict {
	case "ok":
		if rest == "" {
			return "", fmt.Errorf("%w: helper named no user", ErrUnavailable)
		}
		return rest, nil
	case "denied":
		return "", fmt.Errorf("%w: %s", ErrDenied, strings.TrimPrefix(rest, ErrDenied.Error()+": "))
	}
	return "", fmt.Errorf("%w: %s", ErrUnavailable, strings.TrimPrefix(rest, ErrUnavailable.Error()+": "))
}

func encode(texts ...string) []byte {
	var b []byte
	for _, t := range texts {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(t))), t...)
	}
	return b
}

func decode(in io.Reader) (user string, password []byte, err error) {
	r := bufio.NewReaderSize(in, 16)
	var texts [2][]byte
	for i := range texts {
		var size [4]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return "", nil, fmt.Errorf("read login: %w", err)
		}
		n := binary.BigEndian.Uint32(size[:])
		if n > MaxText {
			return "", nil, fmt.Errorf("read login: text of %d bytes", n)
		}
		texts[i] = make([]byte, n)
		if _, err := io.ReadFull(r, texts[i]); err != nil {
			return "", nil, fmt.Errorf("read login: %w", err)
		}
	}
	return string(texts[0]), texts[1], nil
}

// limited keeps the beginning of what is written to it.
type limited struct {
	bytes.Buffer
	max int
}

func (l *limited) Write(b []byte) (int, error) {
	if room := l.max - l.Len(); room > 0 {
		l.Buffer.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

// Helper is the whole helper: it reads a login, checks it and says the verdict. Nobody
// but root can look into its memory, and it leaves no core.
func Helper(in io.Reader, out io.Writer) error {
	if err := hide(); err != nil {
		_, err = fmt.Fprintln(out, "unavailable", err)
		return err
	}
	user, password, err := decode(in)
	if err != nil {
		_, err = fmt.Fprintln(out, "unavailable", err)
		return err
	}
	defer clear(password)
	name := ""
	if err = errors.Join(present(), ready(serviceDir)); err == nil && user == "" { // a Probe
		err = fmt.Errorf("%w: no user", ErrDenied)
	}
	if err == nil {
		name, err = authenticate(user, password)
	}
	switch {
	case err == nil:
		_, err = fmt.Fprintln(out, "ok", name)
	case errors.Is(err, ErrUnavailable):
		_, err = fmt.Fprintln(out, "unavailable", oneLine(err))
	default:
		_, err = fmt.Fprintln(out, "denied", oneLine(err))
	}
	return err
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
