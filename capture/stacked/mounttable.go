package stacked

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mountTable is /proc/self/mountinfo: later lines are mounted over earlier ones.
type mountTable []mountEntry

type mountEntry struct {
	minor  uint32
	point  string // absolute path
	fsType string // with subtype
}

func readMounts() (mountTable, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	return parseMounts(b), nil
}

// parseMounts skips lines it does not understand.
func parseMounts(b []byte) mountTable {
	var t mountTable
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
		t = append(t, mountEntry{minor: uint32(n), point: unescape(left[4]), fsType: right[0]})
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

// containing is the mount that path lies in: the longest mount point above or at it,
// the topmost if several are there.
func (m mountTable) containing(path string) mountEntry {
	for {
		for i := len(m) - 1; i >= 0; i-- {
			if m[i].point == path {
				return m[i]
			}
		}
		if path == "/" || path == "." {
			return mountEntry{}
		}
		path = filepath.Dir(path)
	}
}

// ownDevice finds the device minor of the mount just made on dir.
func ownDevice(dir string) (uint32, error) {
	m, err := readMounts()
	if err != nil {
		return 0, err
	}
	on := m.containing(dir)
	if on.point != dir || on.fsType != fsType {
		return 0, fmt.Errorf("mount on %s is not to be seen", dir)
	}
	return on.minor, nil
}
