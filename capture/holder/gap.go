package holder

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"understudy/internal/atomicfile"
)

// Gap says that changes were missed: the holder gave directories back.
type Gap struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
	Roots  []string  `json:"roots"` // mount points, in order
}

func writeGap(dir string, g Gap) error {
	raw, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, gapFile), append(raw, '\n'), 0o600)
}

// ReadGap reads the record the holder left in a data directory; ok is false if there
// is none.
func ReadGap(dir string) (g Gap, ok bool, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, gapFile))
	if errors.Is(err, fs.ErrNotExist) {
		return g, false, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &g)
	}
	if err != nil {
		return g, true, fmt.Errorf("read the record of a gap: %w", err)
	}
	return g, true, nil
}

// ForgetGap removes the record, once it was acted upon.
func ForgetGap(dir string) error {
	err := os.Remove(filepath.Join(dir, gapFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
