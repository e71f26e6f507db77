package node

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"understudy/fileop"
	"understudy/mirror"
	"understudy/repset"
	"understudy/stream"
)

// What the holder keeps of a session, so that the next daemon goes on with it.

// tailPrefix begins the names under which the holder keeps tails; the connection's key follows.
const tailPrefix = "tail/"

// heldVersion is raised when a daemon could not go on behind an older one.
const heldVersion = 1

// heldTail is what the holder keeps with a tail.
type heldTail struct {
	Version int           `json:"version"`
	Epoch   fileop.Epoch  `json:"epoch"`
	Print   string        `json:"print"` // of what must not change under a session
	Pairs   []repset.Pair `json:"pairs"` // roots and where they go
}

// print is a digest of what a session was begun with.
func (c *Connection) print() (string, error) {
	raw, err := json.Marshal(struct {
		Name string
		Cfg  ConnectionConfig
	}{c.n.cfg.Name, c.cfg})
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), err
}

// keepTail makes a tail for the session's journal and has it held, where the session can
// be resumed: a holder is there, and all captures are of the kind that it keeps. Without
// one a kill costs a difference mirror.
func (s *session) keepTail() *stream.Tail {
	c := s.c
	if c.n.holder == nil {
		return nil
	}
	for _, cap := range s.captures {
		if cap.stacked == nil {
			return nil
		}
	}
	t, err := stream.NewTail(s.epoch, c.n.conf().MemoryLimit, len(c.pairs))
	if err == nil {
		if err = s.keep(t); err != nil {
			err = errors.Join(err, t.Close())
		}
	}
	if err != nil {
		c.log.Warn("the session will not outlive the daemon", "err", err)
		return nil
	}
	return t
}

func (s *session) keep(t *stream.Tail) error {
	print, err := s.c.print()
	if err != nil {
		return err
	}
	meta, err := json.Marshal(heldTail{heldVersion, s.epoch, print, s.c.pairs})
	if err != nil {
		return err
	}
	return s.c.n.holder.Keep(tailPrefix+s.c.key, meta, t.File())
}

// adopt makes the connection anew whose tail was held, and maps the tail, if both still
// belong together. On an error the files are closed.
func (n *Node) adopt(st storedConnection, raw []byte, files []*os.File) (c *Connection, t *stream.Tail, err error) {
	defer func() {
		if err != nil {
			for _, f := range files {
				f.Close()
			}
		}
	}()
	var h heldTail
	if err := decodeJSON(raw, &h, "what is held with a tail"); err != nil {
		return nil, nil, err
	}
	if c, err = n.knownConnection(st, h.Pairs); err != nil {
		return nil, nil, err
	}
	print, err := c.print()
	switch {
	case err != nil:
		return nil, nil, err
	case h.Version != heldVersion:
		return nil, nil, fmt.Errorf("tail of version %d", h.Version)
	case h.Print != print:
		return nil, nil, errors.New("the connection was changed since")
	case len(files) != 1 || len(h.Pairs) == 0:
		return nil, nil, fmt.Errorf("%d files are held for %d roots", len(files), len(h.Pairs))
	}
	if t, err = stream.OpenTail(files[0]); err == nil && t.Epoch() != h.Epoch {
		err = errors.Join(errors.New("tail of another epoch"), t.Close())
	}
	return c, t, err
}

// dropTail forgets what is held of a session that has ended.
func (s *session) dropTail() {
	if s.journal.Tail() == nil {
		return
	}
	if err := s.c.n.holder.Drop(tailPrefix + s.c.key); err != nil {
		s.c.log.Warn("tail not dropped", "err", err)
	}
}

// tellBusy tells the tail whether the mirror does more than pass single operations.
func tellBusy(t *stream.Tail) func(busy, all bool) {
	if t == nil {
		return nil
	}
	return func(busy, all bool) {
		if busy {
			t.Unquiet(stream.UnquietMirror, stream.Doubts{All: all, Since: lately()})
		} else {
			t.Quiet(stream.UnquietMirror)
		}
	}
}

// lately is now, by the coarse clock of file times.
func lately() fileop.Time {
	at := time.Now().Add(-time.Second)
	return fileop.Time{Sec: at.Unix(), Nsec: uint32(at.Nanosecond())}
}

// doubts is what has to be doubted after a kill while a mirror is due or under way:
// what it was to doubt, and files that changed since the session began or it was ordered.
func doubts(o mirror.Options, wasEmpty bool, since fileop.Time) stream.Doubts {
	d := stream.Doubts{All: o.ChecksumAll, Since: since}
	if o.Mode == mirror.Full {
		d.All = !wasEmpty
	} else if !o.Since.IsZero() && o.Since.Sec < since.Sec {
		d.Since = o.Since
	}
	return d
}
