package node

import (
	"context"
	"path/filepath"
	"slices"

	"understudy/control"
	"understudy/fileop"
	"understudy/internal/access"
)

// Scripts that the target runs when a mirror starts, stops or is complete (SCRIPT ADD).
// Each is a task command that stands where the mirror begins or ends in the order of the
// data, so one at the end runs when everything mirrored is applied. As every task command
// it runs only if the target allows them: EnableTaskCmdProcessing.

// mirrorScript is one of them.
type mirrorScript struct {
	Event string   `json:"event"` // mirrorstart, mirrorstop, mirrorcomplete
	Path  string   `json:"path"`
	Args  []string `json:"args,omitempty"`
	Wait  bool     `json:"wait,omitempty"` // the queue waits for it, however long it takes
	User  string   `json:"user"`           // who added it
}

var mirrorEvents = []string{"mirrorstart", "mirrorstop", "mirrorcomplete"}

// addScript is the verb. A connection has one script of each event.
func (n *Node) addScript(ctx context.Context, r control.ScriptRequest) (any, error) {
	c, err := n.connection(r.ID)
	if err != nil {
		return nil, err
	}
	switch {
	case r.Target != "" && r.Target != c.cfg.Target:
		return nil, control.Errorf(control.BadRequest, "name "+c.cfg.Target, "connection %d is to %s, not to %s", c.ID, c.cfg.Target, r.Target)
	case !slices.Contains(mirrorEvents, r.Event):
		return nil, control.Errorf(control.BadRequest, "mirrorstart, mirrorstop or mirrorcomplete", "event %.50q", r.Event)
	case r.Path != "" && !filepath.IsAbs(r.Path):
		return nil, control.Errorf(control.BadRequest, "give the absolute path of a program on "+c.cfg.Target, "script %q", r.Path)
	}
	m := mirrorScript{Event: r.Event, Path: r.Path, Args: r.Args, Wait: r.Wait, User: clip(access.CallerOf(ctx).String())}
	if def := m.task(); r.Path != "" {
		if err := def.Check(); err != nil {
			return nil, control.Errorf(control.BadRequest, "", "%v", err)
		}
	}
	c.mu.Lock()
	list := slices.DeleteFunc(slices.Clone(c.scripts), func(s mirrorScript) bool { return s.Event == m.Event })
	if m.Path != "" {
		list = append(list, m)
	}
	c.scripts = list
	c.mu.Unlock()
	c.store(func(st *storedConnection) { st.Scripts = list })
	return nothing{}, nil
}

// task is the command that runs it.
func (m *mirrorScript) task() fileop.TaskCommand {
	req := control.TaskRequest{Job: m.Event, OnExecute: &control.TaskProgram{Path: m.Path, Args: m.Args}}
	if m.Wait {
		req.TimeoutMS = -1
	}
	return newTask(&req, m.User)
}

// mirrorScript queues the script of an event, if there is one.
func (s *session) mirrorScript(ctx context.Context, event string) {
	s.c.mu.Lock()
	i := slices.IndexFunc(s.c.scripts, func(m mirrorScript) bool { return m.Event == event })
	var m mirrorScript
	if i >= 0 {
		m = s.c.scripts[i]
	}
	s.c.mu.Unlock()
	if i < 0 {
		return
	}
	def := m.task()
	if _, err := s.putTask(ctx, &def); err != nil {
		s.c.log.Error("script of a mirror not queued", "event", event, "path", m.Path, "err", err)
	}
}

// scriptAfter is the event a mirror ended with.
func scriptAfter(err error) string {
	if err == nil {
		return "mirrorcomplete"
	}
	return "mirrorstop"
}
