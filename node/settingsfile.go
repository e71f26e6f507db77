package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"understudy/internal/atomicfile"
	"understudy/settings"
)

// What operators set is kept in settings.json of the data directory: only what was set,
// so that a later version may change a default. It says among other things whether a
// mirror begins by itself, so a damaged file must not be believed: it ends with a
// checksum and stands twice, as the state does.

const settingsVersion = 1

// settingsCopy is the second copy, beside the first.
const settingsCopy = "settings.copy.json"

func settingsPaths(dir string) [2]string {
	return [2]string{filepath.Join(dir, "settings.json"), filepath.Join(dir, settingsCopy)}
}

// storedSettings is the file.
type storedSettings struct {
	Version  int               `json:"version"`
	Settings map[string]string `json:"settings"` // by canonical name
	Written  uint64            `json:"written"`  // how often: the newer copy counts
	Checksum string            `json:"checksum"` // of the file (statefile.go); last
}

// settingsFile is what is set. Its methods may be called by several goroutines.
type settingsFile struct {
	dir string

	mu   sync.Mutex // guards data; held while the file is written
	data storedSettings
}

// openSettings reads the settings of a data directory; where there are none, none are set.
func openSettings(dir string, log *slog.Logger) (*settingsFile, error) {
	f := &settingsFile{dir: dir, data: storedSettings{Version: settingsVersion}}
	found := false
	var errs []error
	for _, path := range settingsPaths(dir) {
		d, err := parseSettings(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			errs = append(errs, fmt.Errorf("read settings %s: %w", path, err))
		case !found || d.Written > f.data.Written:
			f.data, found = d, true
		}
	}
	if !found && len(errs) > 0 {
		return nil, fmt.Errorf("%w; put back a copy, or move the files away: then the defaults and the configuration file count", errors.Join(errs...))
	}
	for _, err := range errs {
		log.Error("a copy of the settings is damaged, the other is used", "err", err)
	}
	if f.data.Settings == nil {
		f.data.Settings = map[string]string{}
	}
	return f, nil
}

// parseSettings reads one copy.
func parseSettings(path string) (d storedSettings, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, fmt.Errorf("%w: %w", errStateDamaged, err)
	}
	if d.Version != settingsVersion {
		return d, fmt.Errorf("version %d, this program writes version %d: use the program that wrote it", d.Version, settingsVersion)
	}
	if sum, have, ok := sumOf(raw); !ok || sum != have {
		return d, fmt.Errorf("%w: checksum %q, want %q; settings are changed with SET, not in the file", errStateDamaged, have, sum)
	}
	return d, nil
}

// get returns what a setting was set to.
func (f *settingsFile) get(s *settings.Setting) (value string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	value, ok = f.data.Settings[s.Name]
	return value, ok
}

// put sets a setting, or with nil takes it back to what it is without, on disk before it
// returns. check may refuse the settings as they would be; nothing is changed then.
func (f *settingsFile) put(s *settings.Setting, value *string, check func(map[string]string) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.data
	if next.Settings = maps.Clone(next.Settings); next.Settings == nil {
		next.Settings = map[string]string{}
	}
	if value == nil {
		delete(next.Settings, s.Name)
	} else {
		next.Settings[s.Name] = *value
	}
	if err := check(next.Settings); err != nil {
		return err
	}
	next.Written++
	if err := next.write(f.dir); err != nil {
		return err
	}
	f.data = next
	return nil
}

// write replaces both copies, one after the other.
func (d storedSettings) write(dir string) error {
	d.Checksum = noSum
	raw, err := json.MarshalIndent(&d, "", "  ")
	if err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	raw = append(raw, '\n')
	sum, _, _ := sumOf(raw)
	copy(raw[bytes.LastIndex(raw, sumField)+len(sumField):], sum)
	for _, path := range settingsPaths(dir) {
		if err := atomicfile.Write(path, raw, 0o600); err != nil {
			return err
		}
	}
	return nil
}
