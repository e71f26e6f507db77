package interp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// Restoration. The machine that holds the replica does it; its numbers are no numbers of
// connections.

// restoreRound is how long one request for the state of a restoration waits.
const restoreRound = time.Second

func (in *Interp) restore(ctx context.Context, c *syntax.Call) (answer, error) {
	set, _, err1 := in.arg(c, "repset")
	from, _, err2 := in.arg(c, "target")
	original, _, err3 := in.arg(c, "original")
	to, named, err4 := in.arg(c, "machine")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return answer{}, err
	}
	source, err := in.current(ctx)
	if err != nil {
		return answer{}, err
	}
	if !named {
		to = source.Node()
	}
	if original == "" {
		original = to
	}
	if c.Has("OVERWRITE") && (c.Has("NOOVERWRITE") || c.Has("NEWER")) {
		return answer{}, fail(syntax.BadParameter, "keep one of them", "OVERWRITE excludes NOOVERWRITE and NEWER")
	}
	req := control.RestoreRequest{Action: "start", Set: set, Original: original, To: to, Overwrite: c.Has("OVERWRITE"), Missing: c.Has("NOOVERWRITE"),
		Checksum: c.Has("CHECKSUM"), Orphans: c.Has("ORPHANS"), Repset: c.Has("RESTOREREPSET"), Map: map[string]string{}}
	fromPaths, toPaths := c.Args("from"), c.Args("to")
	for i := range fromPaths {
		a, err1 := in.textOf(fromPaths[i])
		b, err2 := in.textOf(toPaths[i])
		if err := errors.Join(err1, err2); err != nil {
			return answer{}, err
		}
		req.Map[a] = b
	}
	holder, address, err := in.machine(ctx, from)
	if err != nil {
		return answer{}, err
	}
	if !c.Has("USETARGETDB") && (c.Has("USESOURCEDB") || strings.EqualFold(to, source.Node())) {
		if req.Rules, err = in.rulesOf(ctx, source, set, c.Has("USESOURCEDB")); err != nil {
			return answer{}, err
		}
	}
	var rep control.Restore
	if err := in.askOn(ctx, holder, "restore", req, &rep); err != nil {
		return answer{}, err
	}
	if in.restores == nil {
		in.restores = map[int]string{}
	}
	in.restores[rep.ID] = address
	out := answer{value: number(int64(rep.ID)), json: rep, lines: []string{fmt.Sprintf("Restoration %d: %s from %s to %s", rep.ID, set, rep.From, rep.To)}}
	return out, nil
}

// rulesOf are the rules of a set of the source; none, if it does not exist and need not.
func (in *Interp) rulesOf(ctx context.Context, source Client, set string, must bool) ([]string, error) {
	var got control.Repset
	err := in.askOn(ctx, source, "repset.get", control.NameRequest{Name: set}, &got)
	var ce *control.Error
	if errors.As(err, &ce) && ce.Code == control.NotFound && !must {
		return nil, nil
	}
	var rules []string
	for _, r := range got.Rules {
		rules = append(rules, r.String())
	}
	return rules, err
}

// waitOnRestore waits for the restorations named; * is all that this shell began.
func (in *Interp) waitOnRestore(ctx context.Context, c *syntax.Call) (answer, error) {
	s, _, err := in.arg(c, "con")
	if err != nil {
		return answer{}, err
	}
	out := answer{value: number(1)}
	var ids []int
	if id, isNumber := plain(s).Int(); isNumber {
		ids = []int{int(id)}
	} else if s == "*" {
		for id := range in.restores {
			ids = append(ids, id)
		}
	} else {
		return answer{}, fail(syntax.BadParameter, "", "%q is no number of a restoration", s)
	}
	for _, id := range ids {
		rep, err := in.restoredBy(ctx, id)
		if err != nil {
			return answer{}, err
		}
		out.json = rep
		out.lines = append(out.lines, fmt.Sprintf("Restoration %d of %s to %s: %s; %d files, %d left as they were, %d bytes sent", rep.ID, rep.Set, rep.To, rep.State, rep.Files, rep.Left, rep.Bytes))
		if rep.State != "done" {
			return out, fail(syntax.Failed, "correct what is named and restore again", "restoration %d %s: %s", id, rep.State, rep.Error)
		}
	}
	return out, nil
}

// restoredBy waits for one restoration. One that another shell began is looked for on the
// current target.
func (in *Interp) restoredBy(ctx context.Context, id int) (rep control.Restore, err error) {
	address, known := in.restores[id]
	if !known && in.target != "" {
		if address, err = in.address(ctx, in.target); err != nil {
			return rep, err
		}
	}
	defer in.progress("")
	for {
		holder, err := in.dial(ctx, address)
		if err != nil {
			return rep, err
		}
		if err := in.askOn(ctx, holder, "restore", control.RestoreRequest{Action: "status", ID: id, WaitMS: restoreRound.Milliseconds()}, &rep); err != nil {
			return rep, err
		}
		if rep.State != "restoring" {
			return rep, nil
		}
		in.progress(fmt.Sprintf("restoring %s to %s: %d files, %d bytes sent", rep.Set, rep.To, rep.Files, rep.Bytes))
	}
}

// stopRestore is DISCONNECT of a restoration that this shell began: it ends, if it has not
// ended by itself.
func (in *Interp) stopRestore(ctx context.Context, c *syntax.Call) (done bool, err error) {
	s, _, err := in.arg(c, "con")
	if err != nil {
		return false, err
	}
	id, _ := plain(s).Int()
	address, known := in.restores[int(id)]
	if !known {
		return false, nil
	}
	holder, err := in.dial(ctx, address)
	if err == nil {
		err = in.askOn(ctx, holder, "restore", control.RestoreRequest{Action: "stop", ID: int(id)}, nil)
	}
	return true, err
}
