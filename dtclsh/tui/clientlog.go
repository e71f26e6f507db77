package tui

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"understudy/dtclsh/console"
)

// maxLog bounds the file ClientLog writes, in bytes; the one before is kept beside it.
const maxLog = 1 << 20

// clientLog keeps what is typed, when the setting ClientLog asks for that.
type clientLog struct{ file string }

// keep appends a statement, unless it may hold a password: then only that it was typed.
func (l clientLog) keep(now time.Time, typed string) error {
	if l.file == "" {
		return nil
	}
	if console.Secret(typed) {
		typed = "(not kept: it may hold a password)"
	}
	if err := os.MkdirAll(filepath.Dir(l.file), 0o700); err != nil {
		return fmt.Errorf("keep what is typed: %w", err)
	}
	if st, err := os.Stat(l.file); err == nil && st.Size() > maxLog {
		if err := os.Rename(l.file, l.file+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep what is typed: %w", err)
		}
	}
	f, err := os.OpenFile(l.file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("keep what is typed: %w", err)
	}
	stamp := now.Format(time.RFC3339)
	_, err = f.WriteString(stamp + " " + strings.ReplaceAll(strings.TrimSpace(typed), "\n", "\n"+strings.Repeat(" ", len(stamp)+1)) + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keep what is typed: %w", err)
	}
	return nil
}
