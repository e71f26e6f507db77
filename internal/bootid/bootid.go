// Package bootid tells one boot of the machine from another.
package bootid

import (
	"os"
	"strings"
)

// Path is where the kernel tells. Only tests change it, before anything reads it: they
// boot more often than their machine does.
var Path = "/proc/sys/kernel/random/boot_id"

// Get is the present boot's identity, "" where the kernel does not tell.
func Get() string {
	b, err := os.ReadFile(Path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
