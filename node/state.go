package node

import (
	"log/slog"
	"sync"

	"understudy/fileop"
	"understudy/repset"
)

const stateVersion = 1

// state is what a node remembers over a restart, one small file replaced whole.
// All methods may be called by several goroutines.
type state struct {
	dir string
	log *slog.Logger

	mu   sync.Mutex // guards what follows
	data stateData
}

type stateData struct {
	Version     int                 `json:"version"`
	Name        string              `json:"name"`
	Mounts      []string            `json:"mounts"`
	Connections []storedConnection  `json:"connections"`
	Replicas    map[string]joinInfo `json:"replicas"`
	Sets        []repset.Set        `json:"sets,omitempty"`     // by name, regardless of case
	Machines    map[string]string   `json:"machines,omitempty"` // name to host:port
	Paused      pausedTargets       `json:"paused,omitzero"`    // whose operations are not applied here
	// Limits are the schedules and bandwidths of the targets, by their names.
	Limits map[string]storedLimits `json:"limits,omitempty"`
	// Places are where replicas are, by source and set, also when their connections are gone.
	Places map[string]joinInfo `json:"places,omitempty"`
	Trials []storedTrial       `json:"trials,omitempty"`
	// LastRestore is the number of the last restoration: none has the number of another.
	LastRestore int    `json:"last_restore,omitempty"`
	Written     uint64 `json:"written"`  // how often: the newer copy counts
	Checksum    string `json:"checksum"` // of the file (statefile.go); last
}

// storedConnection is a connection of this machine as source.
type storedConnection struct {
	Key string `json:"key"` // names its streams, here and on the target
	ConnectionConfig
	Verify   *verifyPlan `json:"verify,omitempty"` // nil: no verification begins by itself
	Mirrored bool        `json:"mirrored"`         // a mirror ended once: later ones may be difference mirrors
	// StoppedAt is when changes were last known to reach the target in full: the
	// session ended in good order with nothing left to send. Zero: not known.
	StoppedAt fileop.Time `json:"stopped_at"`
	// What the operator wants of it.
	Transmission  transmitMode `json:"transmission,omitempty"`
	NoReplication bool         `json:"no_replication,omitempty"`
	Wishes        wishes       `json:"wishes,omitzero"`
	// Scripts are run by the target when a mirror starts, stops or is complete.
	Scripts []mirrorScript `json:"scripts,omitempty"`
}

// openState reads the state of a data directory, or begins an empty one.
func openState(dir string, log *slog.Logger) (*state, error) {
	s := &state{dir: dir, log: log, data: stateData{Version: stateVersion}}
	d, found, err := loadState(dir, log)
	if err != nil {
		return nil, err
	}
	if found {
		s.data = d
	}
	if s.data.Replicas == nil {
		s.data.Replicas = map[string]joinInfo{}
	}
	return s, nil
}

// update changes the state and makes the change durable before it returns.
func (s *state) update(change func(*stateData)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.data)
	s.data.Written++
	return writeState(s.dir, s.data)
}

// read gives f the state; f keeps nothing of it.
func (s *state) read(f func(*stateData)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.data)
}
