package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"understudy/internal/atomicfile"
)

// The state file says which paths are protected and which are written, so a damaged one
// must not be believed. It ends with a checksum, and stands twice: the second copy is
// written after the first. The newest sound copy counts; the other is mended at the next
// change. Where none is sound, the node does not start, and says what to do.

// stateCopy is the second copy, beside the first.
const stateCopy = "state.copy.json"

// statePaths are both copies, first the one people read.
func statePaths(dir string) [2]string {
	return [2]string{filepath.Join(dir, "state.json"), filepath.Join(dir, stateCopy)}
}

var stateSum = crc32.MakeTable(crc32.Castagnoli)

// noSum stands in the checksum's place while it is made.
const noSum = "00000000"

var sumField = []byte(`"checksum": "`)

// sumOf is the checksum of a state file, its own digits counted as zeros; ok is false
// where it has none.
func sumOf(raw []byte) (sum, have string, ok bool) {
	at := bytes.LastIndex(raw, sumField) + len(sumField)
	if at < len(sumField) || at+len(noSum) > len(raw) {
		return "", "", false
	}
	have = string(raw[at : at+len(noSum)])
	zeroed := bytes.Clone(raw)
	copy(zeroed[at:], noSum)
	return fmt.Sprintf("%08x", crc32.Checksum(zeroed, stateSum)), have, true
}

// encode is the file's content.
func (d stateData) encode() ([]byte, error) {
	d.Checksum = noSum
	raw, err := json.MarshalIndent(&d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write state: %w", err)
	}
	raw = append(raw, '\n')
	sum, _, _ := sumOf(raw)
	copy(raw[bytes.LastIndex(raw, sumField)+len(sumField):], sum)
	return raw, nil
}

// errStateDamaged: a copy of the state is not what was written.
var errStateDamaged = errors.New("damaged")

// parseState reads one copy.
func parseState(path string) (d stateData, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, fmt.Errorf("%w: %w", errStateDamaged, err)
	}
	if d.Version != stateVersion {
		return d, fmt.Errorf("version %d, this program writes version %d: use the program that wrote it, or move the data directory away", d.Version, stateVersion)
	}
	if sum, have, ok := sumOf(raw); !ok || sum != have {
		return d, fmt.Errorf("%w: checksum %q, want %q", errStateDamaged, have, sum)
	}
	return d, nil
}

// loadState returns the newest sound copy; found is false where there is none at all.
func loadState(dir string, log *slog.Logger) (newest stateData, found bool, err error) {
	var errs []error
	for _, path := range statePaths(dir) {
		d, err := parseState(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			errs = append(errs, fmt.Errorf("read state %s: %w", path, err))
		case !found || d.Written > newest.Written:
			newest, found = d, true
		}
	}
	if found {
		for _, err := range errs {
			log.Error("a copy of the node's state is damaged, the other is used", "err", err)
		}
		return newest, true, nil
	}
	if len(errs) > 0 {
		return newest, false, fmt.Errorf("%w; put back a copy, or move the file away and connect anew", errors.Join(errs...))
	}
	return newest, false, nil
}

// writeState replaces both copies, one after the other.
func writeState(dir string, d stateData) error {
	raw, err := d.encode()
	if err != nil {
		return err
	}
	for _, path := range statePaths(dir) {
		if err := atomicfile.Write(path, raw, 0o600); err != nil {
			return err
		}
	}
	return nil
}
