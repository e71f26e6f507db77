package node

import (
	"context"
	"fmt"
	"time"

	"understudy/fileop"
	"understudy/stream"
)

// The target's part of the clean mark: it is told how far the source's disk holds
// everything, and asked after a power cut of the source what it got beyond that.

// cleanRequest says that the source's disk holds everything up to these records.
type cleanRequest struct {
	Epoch  fileop.Epoch `json:"epoch"`
	Seq    fileop.Seq   `json:"seq"`
	Mirror fileop.Seq   `json:"mirror"`
}

// flightRequest asks for the objects touched by records of an ended epoch after these.
type flightRequest struct {
	cleanRequest
	From int `json:"from"` // how many the source has already
}

// flightReply is a page of them.
type flightReply struct {
	Known bool           `json:"known"` // false: everything may have been touched
	Total int            `json:"total"`
	IDs   []fileop.ObjID `json:"ids"`
}

// flightPage bounds the objects of one reply, some 60 bytes each.
const flightPage = 1 << 13

func cleanSubject(source, conn string) string {
	return "rq.clean." + stream.Token(source) + "." + stream.Token(conn)
}

func flightSubject(source, conn string) string {
	return "rq.flight." + stream.Token(source) + "." + stream.Token(conn)
}

// tellClean lets the target begin to note anew what is touched, and forget what the
// mark on the source's disk covers.
func (s *session) tellClean(ctx context.Context, m cleanMark) error {
	_, err := s.link.Request(ctx, cleanSubject(s.c.n.cfg.Name, s.c.key), encodeJSON(cleanRequest{s.epoch, m.Seq, m.Mirror}))
	return err
}

func (s *session) askInFlight(ctx context.Context, m *cleanMark, from int) (flightReply, error) {
	req := encodeJSON(flightRequest{cleanRequest{m.Epoch, m.Seq, m.Mirror}, from})
	for try := 0; ; try++ {
		data, err := s.link.Request(ctx, flightSubject(s.c.n.cfg.Name, s.c.key), req)
		if err == nil {
			return decodeReply[flightReply](data, "files in flight")
		}
		if try == flightTries || ctx.Err() != nil {
			return flightReply{}, fmt.Errorf("ask target for the files in flight: %w", err)
		}
		select { // it answers the join a moment before it answers this
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

const flightTries = 20

// serveClean answers both requests.
func (r *replica) serveClean() (stop func(), err error) {
	s1, err := r.n.srv.Handle(cleanSubject(r.info.Source, r.info.Connection), func(ctx context.Context, data []byte) ([]byte, error) {
		req, err := decodeReply[cleanRequest](data, "clean mark")
		if err == nil && req.Epoch != r.info.Epoch {
			err = fmt.Errorf("clean mark of epoch %x, here is %x", req.Epoch, r.info.Epoch)
		}
		if err != nil {
			return nil, err
		}
		return nil, r.app.Clean(ctx, req.Seq, req.Mirror)
	})
	if err != nil {
		return nil, err
	}
	s2, err := r.n.srv.Handle(flightSubject(r.info.Source, r.info.Connection), func(_ context.Context, data []byte) ([]byte, error) {
		req, err := decodeReply[flightRequest](data, "request for files in flight")
		if err != nil {
			return nil, err
		}
		return encodeJSON(r.inFlight(&req)), nil
	})
	if err != nil {
		s1()
		return nil, err
	}
	return func() { s1(); s2() }, nil
}

func (r *replica) inFlight(req *flightRequest) (out flightReply) {
	p := r.app.Past()
	if p == nil || p.All || p.Epoch != req.Epoch || p.Seq > req.Seq || p.Mirror > req.Mirror || req.From < 0 {
		return out
	}
	out.Known, out.Total = true, len(p.IDs)
	if req.From < len(p.IDs) {
		out.IDs = p.IDs[req.From:min(req.From+flightPage, len(p.IDs))]
	}
	return out
}
