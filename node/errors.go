package node

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"understudy/applier"
	"understudy/capture"
	"understudy/control"
	"understudy/fileop"
	"understudy/internal/access"
	"understudy/mirror"
	"understudy/repset"
	"understudy/stream"
)

// hints maps what can go wrong to a code for programs and a hint for people.
var hints = []struct {
	err  error
	code control.Code
	hint string
}{
	{capture.ErrBusy, control.Exists, "it is captured already; see: understudy status"},
	{errNoMount, control.NotReady, "run: understudy mount DIR"},
	{access.ErrNotPaired, control.Denied, "pair them: understudy pair invite, on one, and understudy pair join ADDRESS CODE, on the other"},
	{stream.ErrRefused, control.Denied, "pair the machines again, if one of them was set up anew: understudy pair"},
	{stream.ErrDown, control.Unreachable, "is the target running, and its address right?"},
	{stream.ErrNoAnswer, control.Unreachable, "is the target running, and its address right?"},
	{stream.ErrFull, control.NotReady, "free space on the queue's disk, or raise queue_limit"},
	{mirror.ErrRunning, control.Refused, "stop the running mirror first"},
	{repset.ErrMapping, control.BadRequest, "correct the mapping"},
	{applier.ErrProtocol, control.Internal, "the source sent what this version does not understand; upgrade the older machine"},
}

// explain turns an error into what leaves the machine.
func explain(err error) error {
	if err == nil {
		return nil
	}
	var ce *control.Error
	if errors.As(err, &ce) {
		return ce
	}
	var overlap *repset.Overlap
	if errors.As(err, &overlap) {
		return control.Errorf(control.Refused, "", "%v", err)
	}
	if wrong := new(access.WrongKeyError); errors.As(err, &wrong) {
		return control.Errorf(control.Denied, "correct the address; or, if the machine was set up anew, run on both: understudy pair remove NAME, and pair again", "%v", err)
	}
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return control.Errorf(h.code, h.hint, "%v", err)
		}
	}
	return control.Errorf(control.Internal, "", "%v", err)
}

func newSession() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func epochText(e fileop.Epoch) string { return strconv.FormatUint(uint64(e), 16) }

// realPlace is path without symbolic links: those of its nearest existing parent, if it
// does not exist yet.
func realPlace(path string) string {
	rest := ""
	for dir := path; ; dir = filepath.Dir(dir) {
		if resolved, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(resolved, rest)
		}
		if dir == filepath.Dir(dir) {
			return path
		}
		rest = filepath.Join(filepath.Base(dir), rest)
	}
}

// writable reports why nothing can be made at path: its nearest existing parent is not
// writable, or on a read-only file system.
func writable(path string) error {
	dir := filepath.Dir(path)
	for {
		st, err := os.Stat(dir)
		if err == nil {
			if !st.IsDir() {
				return &os.PathError{Op: "make directory below", Path: dir, Err: unix.ENOTDIR}
			}
			if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
				return &os.PathError{Op: "write below", Path: dir, Err: err}
			}
			return nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		dir = filepath.Dir(dir)
	}
}
