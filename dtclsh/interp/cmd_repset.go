package interp

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"understudy/control"
	"understudy/dtclsh/syntax"
	"understudy/repset"
)

// Replication sets: edited here, stored on the source by REPSET SAVE.

// key names a set of the current source in the session.
func (in *Interp) key(name string) string { return in.source + "\x00" + strings.ToLower(name) }

// fetch is the session's copy of a set, or a fresh one from the source.
func (in *Interp) fetch(ctx context.Context, name string) (*edited, error) {
	if e := in.edits[in.key(name)]; e != nil && e.changed {
		return e, nil
	}
	var stored control.Repset
	if err := in.ask(ctx, "repset.get", control.NameRequest{Name: name}, &stored); err != nil {
		return nil, err
	}
	e := &edited{set: stored.Set}
	in.edits[in.key(name)] = e
	return e, nil
}

// named is the set a command names by arg, or the current one.
func (in *Interp) named(ctx context.Context, c *syntax.Call, arg string) (*edited, error) {
	name, given, err := in.arg(c, arg)
	if err != nil {
		return nil, err
	}
	if !given {
		if name = in.set; name == "" {
			return nil, fail(syntax.NoSetChosen, "name it, or choose one: repset use NAME", "no replication set is chosen")
		}
	}
	return in.fetch(ctx, name)
}

func (in *Interp) repsetCreate(ctx context.Context, c *syntax.Call) (answer, error) {
	name, _, err := in.arg(c, "repset")
	if err != nil {
		return answer{}, err
	}
	if err := repset.CheckName(name); err != nil {
		return answer{}, fail(syntax.BadParameter, "", "%v", err)
	}
	_, err = in.fetch(ctx, name)
	if err == nil {
		return answer{}, fail(syntax.SetExists, "choose another name, or: repset use "+name, "replication set %s exists already", name)
	}
	if e := explain(c.Cmd, err); e.Control != control.NotFound {
		return answer{}, err
	}
	in.edits[in.key(name)] = &edited{set: repset.Set{Name: name}, changed: true}
	in.set = name
	return said("Replication set %s begun; add rules, then save it", name), nil
}

func (in *Interp) repsetUse(ctx context.Context, c *syntax.Call) (answer, error) {
	e, err := in.named(ctx, c, "repset")
	if err != nil {
		return answer{}, err
	}
	in.set = e.set.Name
	return said("Replication set: %s", in.set), nil
}

func (in *Interp) repsetDelete(ctx context.Context, c *syntax.Call) (answer, error) {
	name, _, err := in.arg(c, "repset")
	if err != nil {
		return answer{}, err
	}
	if e := in.edits[in.key(name)]; e == nil || e.set.Generation > 0 {
		if err := in.ask(ctx, "repset.delete", control.NameRequest{Name: name}, nil); err != nil {
			return answer{}, err
		}
	}
	delete(in.edits, in.key(name))
	if strings.EqualFold(in.set, name) {
		in.set = ""
	}
	return said("Replication set %s deleted", name), nil
}

// shownSet is a set in an answer.
type shownSet struct {
	control.Repset
	Saved bool `json:"saved"`
}

func (in *Interp) repsetDisplay(ctx context.Context, c *syntax.Call) (answer, error) {
	e, err := in.named(ctx, c, "repset")
	if err != nil {
		return answer{}, err
	}
	shown := shownSet{Repset: control.Repset{Set: e.set}, Saved: !e.changed}
	if e.set.Generation > 0 {
		var stored control.Repset
		if err := in.ask(ctx, "repset.get", control.NameRequest{Name: e.set.Name}, &stored); err == nil {
			shown.Connected = stored.Connected
		}
	}
	if shown.Rules == nil {
		shown.Rules = []repset.Rule{}
	}
	head := fmt.Sprintf("- Rules of %s, generation %d -", e.set.Name, e.set.Generation)
	if e.changed {
		head = fmt.Sprintf("- Rules of %s, not saved -", e.set.Name)
	}
	a := answer{value: number(int64(len(e.set.Rules))), json: shown, lines: []string{head}}
	for _, r := range e.set.Rules {
		a.lines = append(a.lines, r.String())
	}
	return a, nil
}

func (in *Interp) repsetList(ctx context.Context, _ *syntax.Call) (answer, error) {
	var list control.RepsetList
	if err := in.ask(ctx, "repset.list", struct{}{}, &list); err != nil {
		return answer{}, err
	}
	shown := []shownSet{}
	for _, s := range list.Sets {
		e := in.edits[in.key(s.Name)]
		shown = append(shown, shownSet{s, e == nil || !e.changed})
	}
	for key, e := range in.edits {
		if e.set.Generation == 0 && key == in.key(e.set.Name) {
			shown = append(shown, shownSet{control.Repset{Set: e.set}, false})
		}
	}
	a := answer{value: number(int64(len(shown))), json: shown, lines: []string{"- List of rep sets -"}}
	for _, s := range shown {
		state := "disabled"
		if s.Connected {
			state = "enabled"
		}
		if !s.Saved {
			state += ", not saved"
		}
		a.lines = append(a.lines, fmt.Sprintf("%-52s%s", s.Name, state)) // the state stands in column 55
	}
	return a, nil
}

// rule reads the arguments of REPSET RULE ADD and REMOVE.
func (in *Interp) rule(c *syntax.Call) (r repset.Rule, kind, depth bool, err error) {
	r.Path, _, err = in.arg(c, "path")
	r.Exclude = c.Has("EXCLUDE")
	flat := c.Has("NONRECURSIVE") || c.Has("NORECURSIVE")
	r.Recursive = !flat
	kind, depth = r.Exclude || c.Has("INCLUDE"), flat || c.Has("RECURSIVE")
	if c.Has("INCLUDE") && r.Exclude || c.Has("RECURSIVE") && flat {
		return r, kind, depth, fail(syntax.BadParameter, "keep one of them", "the rule says both of what excludes each other")
	}
	return r, kind, depth, err
}

func (in *Interp) ruleAdd(ctx context.Context, c *syntax.Call) (answer, error) {
	r, _, _, err := in.rule(c)
	if err != nil {
		return answer{}, err
	}
	e, err := in.named(ctx, c, "repset")
	if err != nil {
		return answer{}, err
	}
	if len(e.set.Rules) >= repset.MaxRules {
		return answer{}, fail(syntax.BadParameter, "", "%s has %d rules, more are not possible", e.set.Name, repset.MaxRules)
	}
	switch err := e.set.Add(r); {
	case errors.Is(err, repset.ErrRuleExists):
		return answer{}, fail(syntax.BadParameter, "see: repset display", "%v", err)
	case err != nil:
		return answer{}, fail(syntax.BadPath, "", "%v", err)
	}
	e.changed = true
	return said("%s", r), nil
}

func (in *Interp) ruleRemove(ctx context.Context, c *syntax.Call) (answer, error) {
	r, kind, depth, err := in.rule(c)
	if err != nil {
		return answer{}, err
	}
	e, err := in.named(ctx, c, "repset")
	if err != nil {
		return answer{}, err
	}
	var kept []repset.Rule
	for _, have := range e.set.Rules {
		if have.Path != r.Path || kind && have.Exclude != r.Exclude || depth && have.Recursive != r.Recursive {
			kept = append(kept, have)
		}
	}
	if len(kept) == len(e.set.Rules) {
		return answer{}, fail(syntax.NoRule, "see: repset display", "%s has no such rule for %s", e.set.Name, r.Path)
	}
	e.set.Rules, e.changed = kept, true
	return ok(), nil
}

// repsetSave stores the set; nothing to save is no error.
func (in *Interp) repsetSave(ctx context.Context, c *syntax.Call) (answer, error) {
	e, err := in.named(ctx, c, "repset")
	if err != nil || !e.changed {
		return ok(), err
	}
	var saved control.SavedRepset
	if err := in.ask(ctx, "repset.save", e.set, &saved); err != nil {
		return answer{}, err
	}
	e.set, e.changed = saved.Set, false
	for _, note := range saved.Notes {
		in.warn(note)
	}
	a := said("Replication set %s saved, generation %d", e.set.Name, e.set.Generation)
	a.json = saved
	return a, nil
}

func (in *Interp) repsetResync(ctx context.Context, c *syntax.Call) (answer, error) {
	name, given, err := in.arg(c, "repset")
	if err != nil {
		return answer{}, err
	}
	if !given {
		name = in.set
	}
	if e := in.edits[in.key(name)]; e != nil && e.set.Generation > 0 {
		delete(in.edits, in.key(name))
	} else if e != nil {
		return answer{}, fail(syntax.SetNotSaved, "save it, or delete it", "replication set %s was never saved", name)
	}
	e, err := in.named(ctx, c, "repset")
	if err != nil {
		return answer{}, err
	}
	return said("Replication set %s, generation %d", e.set.Name, e.set.Generation), nil
}

// repsetCalculate measures a set. Where it is connected, the connection remembers the
// size for its percentage.
func (in *Interp) repsetCalculate(ctx context.Context, c *syntax.Call) (answer, error) {
	e, err := in.named(ctx, c, "repset")
	if err != nil {
		return answer{}, err
	}
	req := control.CalculateRequest{}
	for _, r := range e.set.Rules {
		req.Rules = append(req.Rules, r.String())
	}
	st, err := in.nodeStatus(ctx)
	if err != nil {
		return answer{}, err
	}
	for _, con := range st.Connections {
		if strings.EqualFold(con.Set, e.set.Name) && !e.changed {
			req = control.CalculateRequest{ID: con.ID}
		}
	}
	var size control.Size
	if err := in.ask(ctx, "calculate", req, &size); err != nil {
		return answer{}, err
	}
	return answer{value: number(size.Bytes), json: size,
		lines: []string{fmt.Sprintf("%s: %d files in %d directories, %d bytes", e.set.Name, size.Files, size.Dirs, size.Bytes)}}, nil
}
