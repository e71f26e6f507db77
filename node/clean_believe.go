package node

import (
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"understudy/fileop"
	"understudy/internal/bootid"
	"understudy/internal/failpoint"
	"understudy/mirror"
)

// believe says what a difference mirror must doubt that follows an end without a
// farewell: everything, or only what changed since the clean mark. It is asked after the
// join, when the target has ended the epoch of the mark.
func (s *session) believe() mirror.Options {
	all := mirror.Options{Mode: mirror.Diff, Checksum: true, ChecksumAll: true}
	n, log := s.c.n, s.c.log
	m, err := n.readMark(s.c.key)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			log.Warn("clean mark unusable, comparing everything by content", "err", err)
		}
		return all
	}
	if time.Now().Before(m.At) {
		log.Warn("clock is behind the clean mark, comparing everything by content")
		return all
	}
	since := m.At.Add(-cleanSlack)
	o := mirror.Options{Mode: mirror.Diff, Checksum: true, Since: fileop.Time{Sec: since.Unix(), Nsec: uint32(since.Nanosecond())}}
	if m.Boot == bootid.Get() && m.Boot != "" || failpoint.Planted(failpoint.PlantNoMark) {
		log.Info("difference mirror looks only at what changed since the clean mark", "seq", m.Seq)
		return o // every change shows in its inode: no power cut took any
	}
	doubted, why := s.inFlight(&m)
	if why != nil {
		log.Warn("files in flight at the power cut are not known, comparing everything by content", "err", why)
		return all
	}
	log.Info("difference mirror looks only at what changed since the clean mark", "seq", m.Seq, "in_flight", len(doubted))
	o.Doubted = &doubted
	return o
}

var (
	errSameBoot = errors.New("changes were not watched until the end")
	errNoFlight = errors.New("the list of files changed in place is not there")
	errNotHeld  = errors.New("the target does not know them")
)

// inFlight collects the files whose content may differ although their inode on this disk
// does not show it: those changed in place here, and those of which the target may have
// a newer state.
func (s *session) inFlight(m *cleanMark) (mirror.Objects, error) {
	if m.SameBoot {
		return nil, errSameBoot
	}
	ids, ok := s.c.n.flight.since(m.Flight)
	if !ok {
		return nil, errNoFlight
	}
	for from := 0; ; {
		page, err := s.askInFlight(s.ctx, m, from)
		if err != nil {
			return nil, err
		}
		if !page.Known {
			return nil, errNotHeld
		}
		for _, id := range page.IDs {
			ids[id] = struct{}{}
		}
		if from += len(page.IDs); len(page.IDs) == 0 || from >= page.Total {
			return ids, nil
		}
	}
}

func decodeReply[T any](data []byte, what string) (out T, err error) {
	err = decodeJSON(data, &out, what)
	return out, err
}

func encodeJSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain values only
	}
	return raw
}
