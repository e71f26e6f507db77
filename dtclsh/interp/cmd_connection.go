package interp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// Connections: made, steered and ended on the current source.

func (in *Interp) connect(ctx context.Context, c *syntax.Call) (answer, error) {
	req, err := in.connectRequest(c)
	if err != nil {
		return answer{}, err
	}
	if e := in.edits[in.key(req.Set)]; e != nil && e.changed {
		if e.set.Generation == 0 {
			return answer{}, fail(syntax.SetNotSaved, "repset save "+e.set.Name, "replication set %s is not saved", e.set.Name)
		}
		return answer{}, fail(syntax.SetUnsaved, "repset save, or repset resync to drop them", "replication set %s has unsaved changes", e.set.Name)
	}
	if c.Cmd.Name == "CONNECT TDU" {
		req.Trial, req.Target = true, "TDU"
		if req.StatsFile, _, err = in.arg(c, "filename"); err != nil {
			return answer{}, err
		}
	}
	var reply control.ConnectReply
	if err := in.ask(ctx, "connect", req, &reply); err != nil {
		return answer{}, err
	}
	for _, note := range reply.Notes {
		in.warn(note)
	}
	return answer{value: number(int64(reply.ID)), json: reply,
		lines: []string{fmt.Sprintf("Connection %d: %s to %s", reply.ID, req.Set, req.Target)}}, nil
}

// connectRequest reads the flags of CONNECT. What the node cannot do is refused, never
// left out in silence.
func (in *Interp) connectRequest(c *syntax.Call) (control.ConnectRequest, error) {
	set, _, err1 := in.arg(c, "repset")
	target, _, err2 := in.arg(c, "target")
	base, _, err3 := in.arg(c, "base")
	req := control.ConnectRequest{Set: set, Target: target, Base: base, Rules: []string{}}
	if err := errors.Join(err1, err2, err3); err != nil {
		return req, err
	}
	if err := exclude(c, [][2]string{{"CLEAN", "DIFFERENT"}, {"CLEAN", "NEWER"}, {"CLEAN", "CHECKSUM"}, {"NOMIRROR", "MIRROR"}, {"NOMIRROR", "CLEAN"}, {"NOMIRROR", "NEWER"}, {"NOMIRROR", "CHECKSUM"},
		{"NOREPLICATE", "REPLICATE"}, {"NOREPLICATE", "REPLICATION"}, {"NOREPLICATION", "REPLICATE"}, {"NOREPLICATION", "REPLICATION"}, {"ORPHANS", "NOORPHANS"}}); err != nil {
		return req, err
	}
	req.Newer, req.Checksum, req.Orphans = c.Has("NEWER"), c.Has("CHECKSUM"), c.Has("ORPHANS")
	req.NoReplication = c.Has("NOREPLICATE") || c.Has("NOREPLICATION")
	if c.Has("DIFFERENT") || req.Newer || req.Checksum {
		req.Mirror, req.Adopt = "diff", true
	}
	if c.Has("NOMIRROR") {
		req.Mirror = "none"
	}
	var keep []string
	for _, v := range c.Args("age_or_size") {
		s, err := in.textOf(v)
		if err != nil {
			return req, err
		}
		keep = append(keep, s)
	}
	req.History = strings.Join(keep, ",")
	return req, in.connectMap(c, &req)
}

// exclude refuses two flags of which only one can be meant.
func exclude(c *syntax.Call, pairs [][2]string) error {
	for _, p := range pairs {
		if c.Has(p[0]) && c.Has(p[1]) {
			return fail(syntax.BadParameter, "keep one of them", "%s and %s exclude each other", p[0], p[1])
		}
	}
	return nil
}

// connectMap reads where the paths of the set go.
func (in *Interp) connectMap(c *syntax.Call, req *control.ConnectRequest) error {
	base := req.Base
	from, to := c.Args("from"), c.Args("to")
	if (c.Has("EXACT") || c.Has("NOMAP")) && len(from) > 0 || base != "" && (len(from) > 0 || c.Has("EXACT") || c.Has("NOMAP")) {
		return fail(syntax.BadParameter, "keep one kind of mapping", "MAP EXACT, MAP BASE and MAP x TO y exclude each other")
	}
	for i := range from {
		a, err1 := in.textOf(from[i])
		b, err2 := in.textOf(to[i])
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if req.Map == nil {
			req.Map = map[string]string{}
		}
		if other, twice := req.Map[a]; twice && other != b {
			return fail(syntax.BadParameter, "keep one", "%s is mapped to %s and to %s", a, other, b)
		}
		req.Map[a] = b
	}
	return nil
}

func (in *Interp) nodeStatus(ctx context.Context) (control.Status, error) {
	var st control.Status
	err := in.ask(ctx, "status", struct{}{}, &st)
	return st, err
}

// cons are the connections an argument names; * is all of the source.
func (in *Interp) cons(ctx context.Context, c *syntax.Call) ([]control.Connection, error) {
	s, _, err := in.arg(c, "con")
	if err != nil {
		return nil, err
	}
	id, isNumber := plain(s).Int()
	if !isNumber && s != "*" {
		return nil, fail(syntax.BadParameter, "", "%q is no connection number", s)
	}
	st, err := in.nodeStatus(ctx)
	if err != nil {
		return nil, err
	}
	var out []control.Connection
	for _, con := range st.Connections {
		if s == "*" || int64(con.ID) == id {
			out = append(out, con)
		}
	}
	if len(out) == 0 && s == "*" {
		return nil, fail(syntax.NoCon, "", "%s has no connections", st.Name)
	}
	if len(out) == 0 {
		return nil, fail(syntax.NoCon, "see: status con *", "no connection %d on %s", id, st.Name)
	}
	return out, nil
}

// each does something with every connection named; all are tried, the first error is
// told.
func (in *Interp) each(ctx context.Context, c *syntax.Call, do func(con control.Connection) error) (answer, error) {
	list, err := in.cons(ctx, c)
	if err != nil {
		return answer{}, err
	}
	for _, con := range list {
		if e := do(con); e != nil && err == nil {
			err = e
		}
	}
	return ok(), err
}

func (in *Interp) disconnect(ctx context.Context, c *syntax.Call) (answer, error) {
	if done, err := in.stopRestore(ctx, c); done || err != nil {
		return ok(), err
	}
	return in.each(ctx, c, func(con control.Connection) error {
		return in.ask(ctx, "disconnect", control.IDRequest{ID: con.ID}, nil)
	})
}

func (in *Interp) mirror(ctx context.Context, c *syntax.Call) (answer, error) {
	req := control.MirrorRequest{Action: strings.ToLower(strings.TrimPrefix(c.Cmd.Name, "MIRROR "))}
	if req.Action == "start" {
		req.Mode, req.Newer, req.Checksum, req.Orphans = "full", c.Has("NEWER"), c.Has("CHECKSUM"), c.Has("ORPHANS")
		if c.Has("DIFFERENT") || req.Newer || req.Checksum {
			req.Mode = "diff"
		}
		if c.Has("CLEAN") && req.Mode == "diff" {
			return answer{}, fail(syntax.BadParameter, "keep one of them", "CLEAN and DIFFERENT exclude each other")
		}
	}
	return in.each(ctx, c, func(con control.Connection) error {
		running := con.Mirror == "Mirroring" || con.Mirror == "Paused"
		switch {
		case req.Action == "start" && running:
			return fail(syntax.MirrorActive, "stop it first: mirror stop "+fmt.Sprint(con.ID), "connection %d mirrors already", con.ID)
		case req.Action != "start" && !running:
			return fail(syntax.NoMirror, "", "no mirror runs on connection %d", con.ID)
		case req.Action == "resume" && con.Mirror != "Paused":
			return fail(syntax.MirrorNotPaused, "", "the mirror of connection %d is not paused", con.ID)
		}
		r := req
		r.ID = con.ID
		return in.ask(ctx, "mirror", r, nil)
	})
}

func (in *Interp) testcon(ctx context.Context, c *syntax.Call) (answer, error) {
	s, _, err := in.arg(c, "con")
	if err != nil {
		return answer{}, err
	}
	if _, isNumber := plain(s).Int(); !isNumber && s != "*" {
		v, err := in.probe(ctx, s)
		return said("%s answers", v.Name), err
	}
	return in.each(ctx, c, func(con control.Connection) error {
		if con.TargetState == "Unreachable" {
			why := cmp.Or(con.LastError, "the line is down")
			return fail(syntax.NoAnswer, "does its daemon run? it is tried again by itself", "target %s of connection %d does not answer: %s", con.Target, con.ID, why)
		}
		return nil
	})
}
