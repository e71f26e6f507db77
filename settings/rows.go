package settings

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// Ways to write a row.

func yesNo(name string, o Owner, def int64, help string) Setting {
	return Setting{Name: name, Owner: o, Kind: Flag, Max: 1, Default: strconv.FormatInt(def, 10), Help: help}
}

func number(name string, o Owner, least, most int64, unit string, def int64, help string) Setting {
	return Setting{Name: name, Owner: o, Kind: Number, Min: least, Max: most, Unit: unit, Default: strconv.FormatInt(def, 10), Help: help}
}

func text(name string, o Owner, k Kind, def, help string) Setting {
	return Setting{Name: name, Owner: o, Kind: k, Default: def, Help: help}
}

// sets makes a setting the configuration key, in units of scale.
func (s Setting) sets(key string, scale int64, when When) Setting {
	s.Key, s.Scale, s.When = key, scale, when
	return s
}

// without gives the reason why a setting has no effect.
func (s Setting) without(why string) Setting {
	s.Without = why
	return s
}

// from says when an effect that is no configuration key begins.
func (s Setting) from(when When) Setting {
	s.When = when
	return s
}

func (s Setting) choices(list ...string) Setting {
	s.Choices = list
	return s
}

func (s Setting) aliases(list ...string) Setting {
	s.Aliases = list
	return s
}

func (s Setting) told() Setting {
	s.ReadOnly = true
	return s
}

func (s Setting) hidden() Setting {
	s.Hidden = true
	return s
}

// obsolete are names that are accepted for the sake of old scripts, all for one reason.
func obsolete(why string, o Owner, names ...string) []Setting {
	var out []Setting
	for _, name := range names {
		out = append(out, Setting{Name: name, Owner: o, Kind: Text, Help: "not used", Without: why, Hidden: true})
	}
	return out
}

// Scales of configuration keys.
const (
	mebibytes = 1 << 20
	seconds   = 1e9
	// mirrorOp is what a mirror operation counts in the window of mirror data: between the
	// original's block size and the small files that make up most of a tree.
	mirrorOp = 16 << 10
)

const (
	anyNumber  = math.MaxUint32 // "unlimited" of the original
	portLeast  = 1025
	portMost   = 65535
	secondsMax = 65535
)

// Reasons that several settings share.
const (
	whyVerify   = "VERIFY SCHEDULE says when a connection is verified"
	whySchedule = "a schedule is looked at when it is due"
	whyOrphans  = "the target logs each of them"
	whyRestore  = "OVERWRITE and NOOVERWRITE of RESTORE say it; without them what is newer stays"
	whyCompress = "nothing is compressed on the way"
	whyWindows  = "it concerns Windows"
	whyLicence  = "there are no licence codes"
	whyUnused   = "the original gave it up as well"
	whyPort     = "everything goes through one port: NetPort"
	whyDatabase = "replication sets, connections and schedules stand in one file, state.json of the data directory"
	whyDriver   = "there is no kernel driver"
	whyTrace    = "log_level: debug in the daemon's configuration shows it"
	whyFixed    = "it is decided at run time"
	whyDebug    = "the daemon's log and the system's own tools serve for that"
)

// Table has every setting, by name.
var Table = sorted(slices.Concat(tableAE, tableFL, tableMP, tableQS, tableTZ, tableOld))

func sorted(table []Setting) []Setting {
	slices.SortStableFunc(table, func(a, b Setting) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	return table
}
