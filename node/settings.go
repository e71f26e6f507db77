package node

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/settings"
)

// What operators ask and set: GET and SET.

// toldSettings are those the machine tells and nobody sets.
var toldSettings = map[string]func(*Node) string{
	"VersionInfo":        func(*Node) string { return Version() },
	"InstallVersionInfo": func(*Node) string { return Version() },
	"InstallPath":        func(*Node) string { path, _ := os.Executable(); return path }, // "" where it is not known
	"DataPath":           func(n *Node) string { return n.cfg.Data },
	"ServerUUID":         func(n *Node) string { return n.keys.Key().String() },
	"SystemMemoryLimit":  func(*Node) string { return fmt.Sprint(systemMemory()) },
	"TargetPaused":       func(n *Node) string { return n.anyPaused() },
}

func systemMemory() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}

func (n *Node) anyPaused() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.replicas {
		if r.isPaused() {
			return "1"
		}
	}
	return "0"
}

func (r *replica) isPaused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.paused
}

func findSetting(name string) (*settings.Setting, error) {
	if s := settings.Find(name); s != nil {
		return s, nil
	}
	return nil, control.Errorf(control.NotFound, "see docs/settings.md, or: get *", "no setting is called %.100q", name)
}

// setting describes one as it is now.
func (n *Node) setting(s *settings.Setting) control.Setting {
	out := control.Setting{Name: s.Name, Number: s.Kind <= settings.Number, Default: s.Default, Note: s.Without}
	out.InForce = n.conf().get(s)
	out.Value = out.InForce
	if told := toldSettings[s.Name]; told != nil {
		out.Value = told(n)
		out.InForce = out.Value
		return out
	}
	value, set := n.settings.get(s)
	if out.Set = set; !set {
		return out
	}
	out.Value = value
	switch {
	case keyOf(s) == "":
		out.InForce = value
	case n.cfg.pinned(s):
		out.Note = n.pinnedNote(s)
	case s.When == settings.Restart && value != out.InForce:
		out.Note = "counts after a restart of the daemon"
	default:
		out.InForce = value // as written: the configuration may round it
	}
	return out
}

func (n *Node) pinnedNote(s *settings.Setting) string {
	return "the daemon was started with " + keyOf(s) + " given by a flag or the environment, which counts"
}

func (n *Node) getSetting(_ context.Context, r control.SettingRequest) (any, error) {
	s, err := findSetting(r.Name)
	if err != nil {
		return nil, err
	}
	return n.setting(s), nil
}

func (n *Node) listSettings(context.Context, nothing) (any, error) {
	out := control.SettingList{Settings: []control.Setting{}}
	for i := range settings.Table {
		if !settings.Table[i].Hidden {
			out.Settings = append(out.Settings, n.setting(&settings.Table[i]))
		}
	}
	return out, nil
}

// setSetting changes a setting: on disk first, then in force, where it can be.
func (n *Node) setSetting(_ context.Context, r control.SettingRequest) (any, error) {
	s, err := findSetting(r.Name)
	if err != nil {
		return nil, err
	}
	if s.ReadOnly {
		return nil, control.Errorf(control.Refused, "", "%s is told by the machine and cannot be set", s.Name)
	}
	var value *string
	if !r.Reset {
		v, err := s.Parse(r.Value)
		if err != nil {
			return nil, control.Errorf(control.BadRequest, "accepted are: "+s.Range(), "%v", err)
		}
		value = &v
	}
	before := n.setting(s)
	var next Config
	err = n.settings.put(s, value, func(set map[string]string) error {
		atStart := n.base
		if err := applySettings(&atStart, set); err != nil { // the next start must work
			return err
		}
		next = n.running(set)
		return next.Validate()
	})
	var refused *settings.ValueError
	if errors.As(err, &refused) {
		return nil, control.Errorf(control.BadRequest, "", "%v", err)
	}
	if err != nil {
		return nil, fmt.Errorf("set %s: %w", s.Name, err)
	}
	n.current.Store(&next)
	n.reconfigured()
	out := n.setting(s)
	out.Outcome = n.outcome(s, before, out)
	if out.Note == "" && s.When != settings.AtOnce && out.Outcome == control.Applied {
		out.Note = "counts from the " + s.When.String() + " on"
	}
	n.log.Info("setting changed", "name", s.Name, "value", out.Value, "outcome", out.Outcome)
	return out, nil
}

// running is the configuration with these settings; what waits for a restart stays as it
// was at the start.
func (n *Node) running(set map[string]string) Config {
	next := n.base
	for i := range settings.Table {
		s := &settings.Table[i]
		switch value, isSet := set[s.Name]; {
		case keyOf(s) == "" || n.cfg.pinned(s):
		case s.When == settings.Restart:
			_ = next.set(s, n.cfg.get(s)) // a value that was in force
		case isSet:
			_ = next.set(s, value) // checked before
		}
	}
	return next
}

func (n *Node) outcome(s *settings.Setting, before, after control.Setting) string {
	switch {
	case s.Without != "":
		return control.NoEffect
	case after.Value != after.InForce:
		return control.Stored
	case before.Value == after.Value && before.InForce == after.InForce:
		return control.Unchanged
	}
	return control.Applied
}

// reconfigured brings changed settings to the parts that hold a copy.
func (n *Node) reconfigured() {
	conf := n.conf()
	poke(n.presence.wake)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.replicas {
		r.app.SetRetry(conf.TargetRetry, conf.TargetRetryLimit)
	}
	for _, c := range n.conns {
		if s := c.current(); s != nil {
			s.sender.SetMirrorWeight(conf.mirrorWeight())
		}
	}
}

// mirrorWeight is how many bytes of a mirror go for each byte of changes.
func (c *Config) mirrorWeight() float64 { return 1 / float64(max(c.ReplicationRatio, 1)) }
