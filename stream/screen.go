package stream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// screenBuffer is what is passed on at a time; a TLS record holds 16 KiB.
const screenBuffer = 64 << 10

// maxLine bounds a line of the messaging protocol, as the server does.
const maxLine = 4 << 10

// screen passes on what a visitor says, message by message, and lets nothing through
// that the server would take further than the visitor may go. The server checks the
// subject of a message, but not where the answer goes; and answers, also those of
// JetStream, are sent with the rights of the node. So answers go to the visitor's own
// inbox only. Every line is read here and written anew, so that both sides understand
// the same.
type screen struct {
	in    *bufio.Reader
	out   *bufio.Writer
	inbox []byte // what reply subjects begin with
	subs  map[string]bool
}

// maxSubs bounds the subscriptions of one visitor.
const maxSubs = 1024

// screenError: the visitor said what it may not.
type screenError struct{ why string }

func (e *screenError) Error() string { return e.why }

// run works until a side ends. An error that is a *screenError is the visitor's fault.
func (s *screen) run() error {
	for {
		if s.in.Buffered() == 0 {
			if err := s.out.Flush(); err != nil {
				return err
			}
		}
		line, err := readLine(s.in, maxLine)
		if err != nil {
			return err
		}
		if err := s.line(line); err != nil {
			return err
		}
	}
}

// line passes on one protocol line and what belongs to it.
func (s *screen) line(line []byte) error {
	f := bytes.Fields(line)
	if len(f) == 0 {
		return &screenError{"empty line"}
	}
	verb, args := string(bytes.ToUpper(f[0])), f[1:]
	switch {
	case verb == "PUB" && (len(args) == 2 || len(args) == 3):
		return s.message(verb, args, 1)
	case verb == "HPUB" && (len(args) == 3 || len(args) == 4):
		return s.message(verb, args, 2)
	case (verb == "PING" || verb == "PONG") && len(args) == 0:
	case verb == "SUB" && (len(args) == 2 || len(args) == 3):
		s.subs[string(args[len(args)-1])] = true
		if len(s.subs) > maxSubs {
			return &screenError{"too many subscriptions"}
		}
	case verb == "UNSUB" && len(args) == 1:
		delete(s.subs, string(args[0]))
	case verb == "UNSUB" && len(args) == 2: // later, after so many messages; it counts until the end
	default:
		return &screenError{fmt.Sprintf("%.20q with %d arguments is not understood", verb, len(args))}
	}
	return s.write(verb, args)
}

// message passes on a message; the last sizes of args are numbers, the largest last.
func (s *screen) message(verb string, args [][]byte, sizes int) error {
	names, numbers := args[:len(args)-sizes], args[len(args)-sizes:]
	if len(names) == 2 && !bytes.HasPrefix(names[1], s.inbox) {
		return &screenError{"answers go to the own inbox only"}
	}
	var size, last int64
	for _, n := range numbers {
		var err error
		if size, err = strconv.ParseInt(string(n), 10, 32); err != nil || size < last || size > maxPayload {
			return &screenError{fmt.Sprintf("message of %.20q bytes", n)}
		}
		last = size
	}
	if err := s.write(verb, args); err != nil {
		return err
	}
	if _, err := io.CopyN(s.out, s.in, size); err != nil {
		return err
	}
	end, err := s.in.Peek(2)
	if err != nil {
		return err
	}
	if !bytes.Equal(end, crlf) {
		return &screenError{"message without its end"}
	}
	_, err = s.out.Write(end)
	if err == nil {
		_, err = s.in.Discard(2)
	}
	return err
}

var crlf = []byte("\r\n")

func (s *screen) write(verb string, args [][]byte) error {
	_, err := s.out.WriteString(verb)
	for _, a := range args {
		if err == nil {
			err = s.out.WriteByte(' ')
		}
		if err == nil {
			_, err = s.out.Write(a)
		}
	}
	if err == nil {
		_, err = s.out.Write(crlf)
	}
	return err
}

var errLongLine = &screenError{"line too long"}

// readLine reads a line of at most max bytes, without its end. It holds no control
// characters but tabs. The slice is valid until the next read.
func readLine(in *bufio.Reader, max int) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, errLongLine
	case err != nil:
		return nil, err
	case len(line) > max:
		return nil, errLongLine
	}
	line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, &screenError{"control character"}
		}
	}
	return line, nil
}
