package node

import (
	"context"
	"errors"
	"sort"
	"strings"
	"time"
	"unicode"

	"understudy/control"
	"understudy/fileop"
	"understudy/history"
)

// maxLabel bounds a mark's label in bytes.
const maxLabel = 128

// checkLabel refuses what could not be typed or shown.
func checkLabel(label string) error {
	if label == "" || len(label) > maxLabel || strings.ContainsFunc(label, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.TrimSpace(label) != label {
		return control.Errorf(control.BadRequest, "1 to 128 bytes that can be printed, no blank at the ends", "label %.140q", label)
	}
	return nil
}

// mark puts a label behind everything captured so far.
func (n *Node) mark(ctx context.Context, req control.MarkRequest) (any, error) {
	c, err := n.connection(req.ID)
	if err != nil {
		return nil, err
	}
	if err := checkLabel(req.Label); err != nil {
		return nil, err
	}
	s := c.current()
	if s == nil || c.replicationOff() {
		return nil, control.Errorf(control.NotReady, "it begins when the target is reached and replication runs", "connection %d has no session now", req.ID)
	}
	if err := s.pastKept(ctx); err != nil {
		return nil, err
	}
	if s.exact() {
		return s.mark(req.Label)
	}
	m, err := s.hintedMark(ctx, req.Label)
	if err != nil {
		return nil, control.Errorf(control.NotReady, "again, when the target is reached and no mirror is under way", "mark not set: %v", s.c.whyNot(err))
	}
	return m, nil
}

// baseWait bounds a wait for the begin of a history.
const baseWait = 30 * time.Second

// pastKept waits until the target keeps what it applies, if it is to: a mark before that
// could not be found again.
func (s *session) pastKept(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, baseWait)
	defer cancel()
	var a ack
	err := s.c.await(ctx, func() bool {
		a = s.lastAck()
		return s.c.current() != s || a.Session != "" && a.NoPast == ""
	})
	switch {
	case err == nil:
		return nil
	case a.Session == "":
		return control.Errorf(control.NotReady, "again, when the target is reached", "mark not set: %v", s.c.whyNot(err))
	}
	return control.Errorf(control.NotReady, "see: history, on "+s.c.cfg.Target, "mark not set: no history is kept on %s yet: %s", s.c.cfg.Target, a.NoPast)
}

// hintedMark puts a label where changes have no place in an order: behind everything that was
// changed before the call and is applied now, and not into the middle of what is sent.
func (s *session) hintedMark(ctx context.Context, label string) (m control.Mark, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, maxCatchUp, errFarBehind)
	defer cancel()
	err = s.caughtUp(ctx)
	if err == nil {
		err = s.c.await(ctx, func() bool { return s.c.current() != s || !s.orders.busy() })
	}
	if err == nil {
		err = s.mirror.Between(ctx, func() error {
			m, err = s.mark(label)
			return err
		})
	}
	return m, err
}

// mark puts a label into the queue; it is applied with what was captured before.
func (s *session) mark(label string) (control.Mark, error) {
	now := time.Now()
	op := fileop.Op{Kind: fileop.Barrier, Path: history.MarkPrefix + label, Time: fileop.Time{Sec: now.Unix(), Nsec: uint32(now.Nanosecond())}}
	seq, err := s.journal.Put(&op)
	return control.Mark{Label: label, Epoch: epochText(s.epoch), Op: uint64(seq), Time: now.UTC()}, err
}

// findPast finds one history by its source and set, or by its connection.
func (n *Node) findPast(source, set, connection string) (*past, error) {
	var found []*past
	none := control.Errorf(control.NotFound, "history is kept from the time on at which it is set: set History 72h; see: history", "no history is kept here of %s",
		nameOfPast(source, set))
	for _, p := range n.listPasts() {
		p.mu.Lock()
		info := p.info
		kept := len(p.gens) > 0
		p.mu.Unlock()
		if !pastNamed(&info, source, set, connection) {
			continue
		}
		if kept {
			found = append(found, p)
		} else if why := p.missing(); why != "" {
			none = control.Errorf(control.NotReady, "see: history", "nothing is kept yet of %s: %s", nameOfPast(info.Source, info.Set), why)
		}
	}
	switch len(found) {
	case 0:
		return nil, none
	case 1:
		return found[0], nil
	}
	return nil, control.Errorf(control.BadRequest, "name source and connection", "there are %d histories of %s", len(found), nameOfPast(source, set))
}

// pastNamed reports whether a history is one that is asked for; "" asks for any.
func pastNamed(info *joinInfo, source, set, connection string) bool {
	return (source == "" || strings.EqualFold(info.Source, source)) && (set == "" || strings.EqualFold(info.Set, set)) &&
		(connection == "" || info.Connection == connection)
}

func nameOfPast(source, set string) string {
	name := "any set"
	if set != "" {
		name = "set " + set
	}
	if source != "" {
		name += " from " + source
	}
	return name
}

func (n *Node) listPasts() (out []*past) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.pasts {
		out = append(out, p)
	}
	return out
}

func (n *Node) historyVerb(_ context.Context, req control.HistoryRequest) (any, error) {
	out := control.HistoryList{Histories: []control.History{}}
	for _, p := range n.listPasts() {
		h := p.describe()
		if (req.Source == "" || strings.EqualFold(h.Source, req.Source)) && (req.Set == "" || strings.EqualFold(h.Set, req.Set)) && (h.Keep != "off" || h.Bases > 0) {
			out.Histories = append(out.Histories, h)
		}
	}
	sort.Slice(out.Histories, func(i, j int) bool {
		return out.Histories[i].Source+"\x00"+out.Histories[i].Set < out.Histories[j].Source+"\x00"+out.Histories[j].Set
	})
	return out, nil
}

// maxListed bounds the spans and marks of an answer; the newest are told.
const maxListed = 2000

func (p *past) describe() control.History {
	p.mu.Lock()
	defer p.mu.Unlock()
	keep := p.n.conf().History
	if p.info.History != "" {
		keep = p.info.History
	}
	if keep == "" {
		keep = "off"
	}
	out := control.History{Source: p.info.Source, Set: p.info.Set, Keep: keep, Active: p.live != nil, Bases: len(p.gens), Dir: p.dir, Error: p.why,
		Spans: []control.HistorySpan{}, Marks: []control.Mark{}}
	for _, g := range p.gens {
		out.Bytes += g.log.Bytes()
		for _, s := range g.log.Spans() {
			out.Spans = append(out.Spans, control.HistorySpan{Epoch: epochText(s.Epoch), From: uint64(s.From), To: uint64(s.To), FromTime: s.FromTime, ToTime: s.ToTime})
		}
		for _, m := range g.log.Marks() {
			out.Marks = append(out.Marks, control.Mark{Label: m.Label, Epoch: epochText(m.Epoch), Op: uint64(m.Op), Time: m.Time})
		}
	}
	out.Spans = out.Spans[max(0, len(out.Spans)-maxListed):]
	out.Marks = out.Marks[max(0, len(out.Marks)-maxListed):]
	return out
}

// clearHistory deletes what is kept. With history on, a new base is made.
func (n *Node) clearHistory(ctx context.Context, req control.HistoryRequest) (any, error) {
	if req.Source == "" || req.Set == "" {
		return nil, control.Errorf(control.BadRequest, "", "name the source and the set")
	}
	p, err := n.findPast(req.Source, req.Set, req.Connection)
	if err != nil {
		return nil, err
	}
	if err := p.clear(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return nil, err
	}
	return nothing{}, nil
}
