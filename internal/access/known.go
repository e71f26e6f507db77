package access

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"understudy/internal/atomicfile"
)

// Known remembers the keys of machines that a person logs in to, one line for each:
// host:port and fingerprint. It is for programs that no paired machine tells them.
type Known struct{ Path string }

// KnownFile is where a user's known machines are, by the XDG base directory
// specification; "" if there is no home directory.
func KnownFile(getenv func(string) string) string {
	dir := getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) {
		home := getenv("HOME")
		if !filepath.IsAbs(home) {
			return ""
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "understudy", "known_machines")
}

// maxKnown bounds the lines of the file.
const maxKnown = 10000

// Find returns the key of an address; false if there is none.
func (k Known) Find(address string) (key Fingerprint, ok bool, err error) {
	lines, err := k.lines()
	for _, l := range lines {
		have, text, _ := strings.Cut(l, " ")
		if have != address {
			continue
		}
		if err := key.UnmarshalText([]byte(strings.TrimSpace(text))); err != nil {
			return key, false, fmt.Errorf("%s: %s: %w", k.Path, address, err)
		}
		return key, true, nil
	}
	return key, false, err
}

// Add remembers the key of an address, instead of one it had.
func (k Known) Add(address string, key Fingerprint) error {
	if k.Path == "" {
		return nil // no home, no memory
	}
	if strings.ContainsAny(address, " \n\r") {
		return fmt.Errorf("address %q", address)
	}
	lines, err := k.lines()
	if err != nil {
		return err
	}
	var out strings.Builder
	for _, l := range lines {
		if have, _, _ := strings.Cut(l, " "); have != address {
			out.WriteString(l + "\n")
		}
	}
	fmt.Fprintf(&out, "%s %s\n", address, key)
	if err := os.MkdirAll(filepath.Dir(k.Path), 0o700); err != nil {
		return fmt.Errorf("known machines: %w", err)
	}
	return atomicfile.Write(k.Path, []byte(out.String()), 0o600)
}

func (k Known) lines() (lines []string, err error) {
	if k.Path == "" {
		return nil, nil
	}
	f, err := os.Open(k.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("known machines: %w", err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		if len(lines) >= maxKnown {
			return nil, fmt.Errorf("known machines: %s has more than %d lines", k.Path, maxKnown)
		}
		if line := strings.TrimSpace(s.Text()); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines, s.Err()
}
