package console

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// HistoryFile is where the shell keeps its history: the user's state directory, as the
// XDG base directory specification says. "" if there is no home directory.
func HistoryFile(getenv func(string) string) string {
	dir := getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) {
		home := getenv("HOME")
		if !filepath.IsAbs(home) {
			return ""
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "understudy", "dtclsh_history")
}

// logsIn finds LOGIN in all its spellings and abbreviations. It errs towards finding.
var logsIn = regexp.MustCompile(`(?i)\blog\s*(in?|on?)\b|passw`)

// secret reports whether a text may hold a password.
func Secret(text string) bool { return logsIn.MatchString(text) }

// oneLine makes several lines one statement of the history.
func OneLine(text string) string {
	var out []string
	for _, l := range strings.Split(text, "\n") {
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		if strings.Contains(l, "#") && strings.Contains(strings.TrimSpace(text), "\n") {
			return "" // a comment would swallow what follows it
		}
		out = append(out, l)
	}
	return strings.Join(out, "; ")
}

// writeHistory replaces the history file as a whole; only its owner may read it.
func writeHistory(file string, write func(*os.File) error) error {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep history: %w", err)
	}
	f, err := os.CreateTemp(dir, ".history-*") // mode 0600
	if err != nil {
		return fmt.Errorf("keep history: %w", err)
	}
	err = write(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("keep history: %w", err)
	}
	return nil
}
