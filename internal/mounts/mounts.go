// Package mounts reads the mount table and steers FUSE connections, without touching
// what is mounted.
package mounts

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Table is /proc/self/mountinfo: later lines are mounted over earlier ones.
type Table []Entry

// Entry is one mount.
type Entry struct {
	Minor  uint32
	Point  string // absolute path
	FSType string // with subtype
}

// Read reads the mount table of this process.
func Read() (Table, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	return Parse(b), nil
}

// Parse reads a mount table. It skips lines it does not understand.
func Parse(b []byte) Table {
	var t Table
	for line := range bytes.Lines(b) {
		// 36 35 98:0 /root /point rw,noatime master:1 - type source rw
		before, after, ok := strings.Cut(strings.TrimSpace(string(line)), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 1 {
			continue
		}
		_, minor, _ := strings.Cut(left[2], ":")
		n, err := strconv.ParseUint(minor, 10, 32)
		if err != nil {
			continue
		}
		t = append(t, Entry{Minor: uint32(n), Point: unescape(left[4]), FSType: right[0]})
	}
	return t
}

// unescape undoes the kernel's octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// HasFUSE reports whether the FUSE file system of this device is mounted anywhere.
func (m Table) HasFUSE(minor uint32) bool {
	return slices.ContainsFunc(m, func(e Entry) bool {
		return e.Minor == minor && (e.FSType == "fuse" || strings.HasPrefix(e.FSType, "fuse."))
	})
}

// Containing is the mount that path lies in: the longest mount point above or at it,
// the topmost if several are there.
func (m Table) Containing(path string) Entry {
	for {
		for i := len(m) - 1; i >= 0; i-- {
			if m[i].Point == path {
				return m[i]
			}
		}
		if path == "/" || path == "." {
			return Entry{}
		}
		path = filepath.Dir(path)
	}
}
