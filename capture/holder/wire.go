package holder

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Limits of what is kept. The kernel passes at most 253 descriptors in one message.
const (
	MaxMeta  = 64 << 10 // bytes of meta of one item
	maxFiles = 16       // descriptors of one item
	maxName  = 512      // bytes
	maxItems = 1 << 16
	maxWire  = 160 << 10 // bytes of one message: meta in base64, and the rest
	maxNames = 512       // names in one reply: they fit, whatever their length
)

// verbs of the wire. Those without an answer: ping, hand, discard.
const (
	verbHello   = "hello"   // begin; the answer says when the daemon before has ended
	verbKeep    = "keep"    // files under a name, instead of what was there
	verbHand    = "hand"    // keep without an answer
	verbTake    = "take"    // duplicates of files
	verbNames   = "names"   // names after Name, in order
	verbDrop    = "drop"    // forget a name
	verbDiscard = "discard" // drop without an answer
	verbPing    = "ping"    // a sign of life
	verbEnd     = "end"     // drop everything and end
)

// message is one datagram either way, with descriptors beside it.
type message struct {
	Verb  string   `json:"verb,omitempty"`
	Name  string   `json:"name,omitempty"`
	Meta  []byte   `json:"meta,omitempty"`
	Names []string `json:"names,omitempty"`
	More  bool     `json:"more,omitempty"`  // of names
	Error string   `json:"error,omitempty"` // of an answer
	Code  string   `json:"code,omitempty"`  // of an error a caller can act on
	Note  string   `json:"note,omitempty"`  // answer to hello: what happened to the daemon before
}

// Errors a caller can act on.
var (
	// ErrNotHeld: there is nothing under this name.
	ErrNotHeld = errors.New("nothing is held under this name")
	// ErrBusy: another daemon uses this holder.
	ErrBusy = errors.New("another daemon uses the holder")
	// ErrTooMuch: over a limit of this package.
	ErrTooMuch = errors.New("more than the holder keeps")
)

var codes = map[string]error{"not-held": ErrNotHeld, "busy": ErrBusy, "too-much": ErrTooMuch}

func refusal(err error) message {
	m := message{Error: err.Error()}
	for code, known := range codes {
		if errors.Is(err, known) {
			m.Code = code
		}
	}
	return m
}

// err is the error of an answer.
func (m *message) err() error {
	if m.Error == "" {
		return nil
	}
	if known := codes[m.Code]; known != nil {
		return fmt.Errorf("holder: %w", known)
	}
	return fmt.Errorf("holder: %s", m.Error)
}

// send writes one message; the descriptors belong to the receiver as soon as it
// returns, whatever becomes of this process.
func send(c *net.UnixConn, m message, fds []int) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(raw) > maxWire || len(fds) > maxFiles {
		return fmt.Errorf("message of %d bytes and %d descriptors: %w", len(raw), len(fds), ErrTooMuch)
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err = c.WriteMsgUnix(raw, oob, nil)
	return err
}

// receive reads one message. On an error no descriptor is left open.
func receive(c *net.UnixConn, buf []byte) (message, []int, error) {
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return message{}, nil, err
	}
	fds, err := rights(oob[:oobn])
	if err == nil && n == 0 {
		err = syscall.ECONNRESET // the other end is gone
	}
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.New("message of the holder was cut")
	}
	var m message
	if err == nil {
		err = json.Unmarshal(buf[:n], &m)
	}
	if err != nil {
		closeAll(fds)
		return message{}, nil, err
	}
	return m, fds, nil
}

func rights(oob []byte) (fds []int, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("descriptors of a message: %w", err)
	}
	for i := range list {
		got, err := unix.ParseUnixRights(&list[i])
		if err == nil {
			fds = append(fds, got...)
		}
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// filesOf duplicates files for keeping.
func filesOf(files []*os.File) (fds []int, err error) {
	for _, f := range files {
		var fd int
		raw, e := f.SyscallConn()
		if e == nil {
			e = raw.Control(func(p uintptr) { fd, err = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0) })
		}
		if e = errors.Join(e, err); e != nil {
			closeAll(fds)
			return nil, fmt.Errorf("duplicate descriptor: %w", e)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}
