package failover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"understudy/internal/atomicfile"
)

// Phase is what a monitor is about, as kept on disk. What the countdown says is not: it
// begins anew at each start.
type Phase string

// The phases.
const (
	Watching    Phase = ""             // started or stopped
	FailingOver Phase = "failing over" // a takeover is under way
	FailedOver  Phase = "failed over"
	FailingBack Phase = "failing back"
)

const recordVersion = 1

// maxErrors bounds the list of what went wrong in a takeover.
const maxErrors = 64

// record is a monitor on disk, with what it is doing. The file is replaced whole.
type record struct {
	Version int     `json:"version"`
	Monitor Monitor `json:"monitor"`
	Started bool    `json:"started"`
	// Await: the countdown begins with the first answer of the source, which may still be
	// off the network after a failback (F74), or may never have been there.
	Await bool `json:"await,omitempty"`

	Phase  Phase     `json:"phase,omitempty"`
	Step   string    `json:"step,omitempty"` // begun; the next start does it again
	Order  Order     `json:"order"`
	Since  time.Time `json:"since"`
	Taken  []Taken   `json:"taken,omitempty"`
	Skip   []string  `json:"skip,omitempty"` // addresses that somebody else answers for
	Lent   bool      `json:"lent,omitempty"` // the source holds its addresses on lease
	Errors []string  `json:"errors,omitempty"`

	// Sealed: nothing of the source is received or applied (F35). Restore: that stays so
	// after failback, until the source has the data of the time it was away.
	Sealed  bool `json:"sealed,omitempty"`
	Restore bool `json:"restore,omitempty"`
	// Replicas is the node's: what was received from the source when it was taken over.
	Replicas json.RawMessage `json:"replicas,omitempty"`
}

// Order is how a takeover or failback is to be done.
type Order struct {
	Manual bool `json:"manual,omitempty"` // a person asked for it
	Force  bool `json:"force,omitempty"`  // also with unusable data, and addresses that others answer for
	Stop   bool `json:"stop,omitempty"`   // after failback, do not watch
	Switch bool `json:"switch,omitempty"` // the source lives, and gives its addresses up when it is told
}

// Taken is an address that this machine answers for in place of a source.
type Taken struct {
	Prefix netip.Prefix `json:"prefix"`
	NIC    string       `json:"nic"`
	Ours   bool         `json:"ours"` // it was not there before: failback removes it
}

// clone is a copy that shares nothing.
func (r *record) clone() record {
	c := *r
	c.Taken, c.Skip, c.Errors = slices.Clone(r.Taken), slices.Clone(r.Skip), slices.Clone(r.Errors)
	c.Monitor = r.Monitor.clone()
	return c
}

func (m *Monitor) clone() Monitor {
	c := *m
	c.Addresses, c.Witnesses = slices.Clone(m.Addresses), slices.Clone(m.Witnesses)
	c.Scripts = map[string]Script{}
	for k, v := range m.Scripts {
		c.Scripts[k] = v
	}
	return c
}

func recordPath(dir, source string) string { return filepath.Join(dir, source+".json") }

func (r *record) write(dir string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write monitor %s: %w", r.Monitor.Source, err)
	}
	if err := atomicfile.Write(recordPath(dir, r.Monitor.Source), append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("write monitor %s: %w", r.Monitor.Source, err)
	}
	return nil
}

// readRecords reads all monitors of a directory. Those that cannot be read are told and
// left as they are: an operator may still need what stands there.
func readRecords(dir string) (all []record, errs []error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, []error{err}
	}
	for _, name := range names {
		r, err := readRecord(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			errs = append(errs, fmt.Errorf("monitor %s: %w", name, err))
		case len(all) == MaxMonitors:
			errs = append(errs, fmt.Errorf("monitor %s: more than %d", name, MaxMonitors))
		default:
			all = append(all, r)
		}
	}
	return all, errs
}

func readRecord(name string) (r record, err error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, err
	}
	if r.Version != recordVersion {
		return r, fmt.Errorf("version %d, this program writes version %d", r.Version, recordVersion)
	}
	if r.Monitor.Source+".json" != filepath.Base(name) {
		return r, fmt.Errorf("it is of %q", r.Monitor.Source)
	}
	if err := r.Monitor.Validate(); err != nil {
		return r, err
	}
	switch r.Phase {
	case Watching, FailingOver, FailedOver, FailingBack:
		return r, nil
	}
	return r, fmt.Errorf("phase %q is not known", r.Phase)
}
