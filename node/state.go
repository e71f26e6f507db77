package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"understudy/fileop"
	"understudy/internal/atomicfile"
	"understudy/repset"
)

const stateVersion = 1

// state is what a node remembers over a restart, one small file replaced whole.
// All methods may be called by several goroutines.
type state struct {
	path string
	mu   sync.Mutex
	data stateData
}

type stateData struct {
	Version     int                 `json:"version"`
	Name        string              `json:"name"`
	Secret      string              `json:"secret"`
	Mounts      []string            `json:"mounts"`
	Connections []storedConnection  `json:"connections"`
	Replicas    map[string]joinInfo `json:"replicas"`
	Sets        []repset.Set        `json:"sets,omitempty"`     // by name, regardless of case
	Machines    map[string]string   `json:"machines,omitempty"` // name to host:port
}

// storedConnection is a connection of this machine as source.
type storedConnection struct {
	Key string `json:"key"` // names its streams, here and on the target
	ConnectionConfig
	Mirrored bool `json:"mirrored"` // a mirror ended once: later ones may be difference mirrors
	// StoppedAt is when changes were last known to reach the target in full: the
	// session ended in good order with nothing left to send. Zero: not known.
	StoppedAt fileop.Time `json:"stopped_at"`
}

// openState reads the state file of a data directory, or begins an empty one.
func openState(dir string) (*state, error) {
	s := &state{path: filepath.Join(dir, "state.json"), data: stateData{Version: stateVersion, Replicas: map[string]joinInfo{}}}
	raw, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	if err := json.Unmarshal(raw, &s.data); err != nil {
		return nil, fmt.Errorf("read state %s: damaged: %w; put back a copy, or move the file away and connect anew", s.path, err)
	}
	if s.data.Version != stateVersion {
		return nil, fmt.Errorf("read state %s: version %d, this program writes version %d: use the program that wrote it, or move the data directory away",
			s.path, s.data.Version, stateVersion)
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
	raw, err := json.MarshalIndent(&s.data, "", "  ")
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return atomicfile.Write(s.path, append(raw, '\n'), 0o600)
}

// read gives f the state; f keeps nothing of it.
func (s *state) read(f func(*stateData)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.data)
}
