package interp

import (
	"context"

	"understudy/control"
	"understudy/settings"
)

// What can be named, for completion. What cannot be asked is left out.

// Paths lists paths of the current source that begin with prefix; those of directories
// end in a slash.
func (in *Interp) Paths(ctx context.Context, prefix string) []string {
	c, err := in.current(ctx)
	if err != nil {
		return nil
	}
	return in.pathsOn(ctx, c, prefix)
}

// TargetPaths is Paths on a machine by name; "" is the current target.
func (in *Interp) TargetPaths(ctx context.Context, target, prefix string) []string {
	if target == "" {
		target = in.target
	}
	if target == "" {
		return nil
	}
	c, _, err := in.machine(ctx, target)
	if err != nil {
		return nil
	}
	return in.pathsOn(ctx, c, prefix)
}

func (in *Interp) pathsOn(ctx context.Context, c Client, prefix string) []string {
	var got control.Paths
	if in.askOn(ctx, c, "paths", control.PathsRequest{Prefix: prefix}, &got) != nil {
		return nil
	}
	return got.Paths
}

// Monitors lists the monitors of the current target.
func (in *Interp) Monitors(ctx context.Context) (names []string) {
	var list control.MonitorList
	if in.askTarget(ctx, "monitor.list", struct{}{}, &list) != nil {
		return nil
	}
	for _, m := range list.Monitors {
		names = append(names, m.Source)
	}
	return names
}

// SettingNames lists the settings of a machine.
func SettingNames() (names []string) {
	for i := range settings.Table {
		if s := &settings.Table[i]; !s.Hidden {
			names = append(names, s.Name)
		}
	}
	return names
}

// LocalNames lists the settings of the shell.
func LocalNames() (names []string) {
	for _, s := range localSettings {
		names = append(names, s.name)
	}
	return names
}
