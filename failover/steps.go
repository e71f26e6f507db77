package failover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"understudy/internal/failpoint"
)

// step is a part of a takeover or failback. It may be done twice: after an interruption it
// begins again.
type step struct {
	name string
	text string // for people
	do   func(s *sentry, ctx context.Context) error
}

// takeoverSteps in their order (design section 8).
var takeoverSteps = []step{
	{"fence", "make sure that the source is off, by the fencing script", (*sentry).fence},
	{"queue", "apply what was received from the source, and receive nothing more from it", (*sentry).applyQueue},
	{PreFailover, "run the pre-failover script", func(s *sentry, ctx context.Context) error { return s.script(ctx, PreFailover) }},
	{"probe", "ask whether somebody else answers for the addresses", (*sentry).probeAddresses},
	{"addresses", "add the addresses", (*sentry).addAddresses},
	{"announce", "announce the addresses", (*sentry).announce},
	{PostFailover, "run the post-failover script", func(s *sentry, ctx context.Context) error { return s.script(ctx, PostFailover) }},
}

// failbackSteps in their order (F70 to F74).
var failbackSteps = []step{
	{PreFailback, "run the pre-failback script", func(s *sentry, ctx context.Context) error { return s.script(ctx, PreFailback) }},
	{"remove", "remove the addresses that were added", (*sentry).removeAddresses},
	{PostFailback, "run the post-failback script", func(s *sentry, ctx context.Context) error { return s.script(ctx, PostFailback) }},
}

// stepAt is the place of a step of a takeover; -1: it is none.
func stepAt(name string) int {
	return slices.IndexFunc(takeoverSteps, func(st step) bool { return st.name == name })
}

// errStopped wraps what stops a takeover: the data and the addresses stay as they are.
var errStopped = errors.New("takeover stopped")

// perform does the steps from the one the record names on. It returns errStopped's error
// if a step forbids to go on, and the cause of ctx when the daemon ends.
func (s *sentry) perform(ctx context.Context, steps []step, before, after failpoint.Point) error {
	now := s.current().Step
	from := max(slices.IndexFunc(steps, func(st step) bool { return st.name == now }), 0)
	for _, st := range steps[from:] {
		if err := s.change(func(r *record) { r.Step = st.name }); err != nil {
			s.trouble(st.name, err) // the disk is full; availability first
		}
		failpoint.Hit(before)
		s.m.host.Tell(StepBegins, s.source, s.source, st.name, st.text)
		err := st.do(s, ctx)
		failpoint.Hit(after)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, errStopped) {
			return err
		}
		if err != nil {
			s.trouble(st.name, err)
		}
	}
	return nil
}

// trouble notes what went wrong in a step that does not stop the rest (F32).
func (s *sentry) trouble(step string, err error) {
	text := step + ": " + err.Error()
	if slices.Contains(s.current().Errors, text) {
		return
	}
	s.m.host.Tell(StepFailed, s.source, s.source, step, err)
	_ = s.change(func(r *record) {
		if len(r.Errors) < maxErrors {
			r.Errors = append(r.Errors, text)
		}
	})
}

// fence waits for the fencing script's exit 0; without one there is nothing to do. A
// person may go on without it.
func (s *sentry) fence(ctx context.Context) error {
	r := s.current()
	sc, ok := r.Monitor.Scripts[Fence]
	if !ok || r.Order.Switch {
		return nil
	}
	out, err := s.runScript(ctx, Fence, sc)
	switch {
	case err == nil:
		return nil
	case r.Order.Force:
		return fmt.Errorf("fence: %w: %s", err, out)
	}
	return fmt.Errorf("%w: the fence did not hold: %w: %s", errStopped, err, out)
}

// applyQueue waits until what was received is applied, and cuts the source off.
func (s *sentry) applyQueue(ctx context.Context) error {
	r := s.current()
	replicas, err := s.m.host.Seal(ctx, s.source, r.Monitor.SkipQueue)
	if ctx.Err() != nil {
		return err
	}
	return errors.Join(err, s.change(func(r *record) {
		r.Sealed, r.Restore = true, r.Restore || len(replicas) > 0
		if len(replicas) > 0 {
			r.Replicas = replicas
		}
	}))
}

// script runs a hook, if there is one. One that is not waited for runs on beside the rest.
func (s *sentry) script(ctx context.Context, name string) error {
	sc, ok := s.current().Monitor.Scripts[name]
	if !ok {
		return nil
	}
	if sc.Wait {
		out, err := s.runScript(ctx, name, sc)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	go func() { // it outlives this daemon, if need be
		if _, err := s.runScript(context.WithoutCancel(ctx), name, sc); err != nil {
			s.trouble(name, err)
		}
	}()
	return nil
}

func (s *sentry) runScript(ctx context.Context, name string, sc Script) (string, error) {
	s.m.host.Tell(ScriptStarts, s.source, name, sc.Path)
	out, err := RunScript(ctx, sc, s.environment(name))
	if err != nil {
		s.m.host.Tell(ScriptFailed, s.source, name, err, out)
	} else {
		s.m.host.Tell(ScriptEnded, s.source, name, out)
	}
	return out, err
}

// environment is what scripts are told (F65).
func (s *sentry) environment(event string) []string {
	r := s.current()
	var addrs, nics []string
	for _, t := range r.Taken {
		addrs, nics = append(addrs, t.Prefix.String()), append(nics, t.NIC)
	}
	if len(r.Taken) == 0 { // before they are added
		for _, a := range r.moving() {
			addrs, nics = append(addrs, a.Address), append(nics, a.NIC)
		}
	}
	flag := map[bool]string{false: "0", true: "1"}
	return []string{"SM_EVENT=" + event, "SM_SOURCE=" + s.source, "SM_TARGET=" + s.m.host.Name(), "SM_ADDRESSES=" + strings.Join(addrs, " "),
		"SM_NICS=" + strings.Join(nics, " "), "SM_MANUAL=" + flag[r.Order.Manual], "SM_FORCE=" + flag[r.Order.Force], "SM_MOVENAME=" + flag[r.Monitor.MoveName]}
}
