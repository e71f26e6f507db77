package node

import (
	"fmt"
	"strconv"
)

// original is a setting of the original product under its own name and in its own unit.
type original struct {
	key  string
	unit int64  // bytes in one of it; 0: taken as it is
	end  string // what is written behind the number: the unit of a duration
}

// originals by their names in lower case; case does not matter.
var originals = map[string]original{
	"autoreconnect":         {key: "auto_reconnect"},
	"autoremirror":          {key: "auto_remirror"},
	"autoremirrorretry":     {key: "auto_remirror_retry", end: "s"},
	"networkretry":          {key: "network_retry", end: "s"},
	"tgretrylocked":         {key: "target_retry", end: "s"},
	"tgexecutionretrylimit": {key: "target_retry_limit"},
	"qjournalspacemax":      {key: "queue_limit", unit: 1 << 20},
	"qjournalfreespacemin":  {key: "queue_free", unit: 1 << 20},
	"qmemorybuffermax":      {key: "memory_limit", unit: 1 << 20},
}

// FromOriginals replaces settings under the original's names, which are keys of settings
// in lower case, by those of ConfigKeys.
func FromOriginals(settings map[string]any) error {
	for name, o := range originals {
		v, ok := settings[name]
		if !ok {
			continue
		}
		if _, both := settings[o.key]; both {
			return fmt.Errorf("%s and %s: give one of them", name, o.key)
		}
		if o.unit > 0 || o.end != "" {
			n, err := strconv.ParseInt(fmt.Sprint(v), 10, 33)
			if err != nil || n < 0 {
				return fmt.Errorf("%s: %v: a whole number, as in the original", name, v)
			}
			v = strconv.FormatInt(n*max(o.unit, 1), 10) + o.end
		}
		settings[o.key] = v
		delete(settings, name)
	}
	return nil
}
