package pamlogin

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// hide keeps the process's memory from other processes of the user and from core files.
func hide() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("protect the memory: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	_ = unix.Mlockall(unix.MCL_CURRENT) // not swapped out, where that is allowed
	return nil
}
