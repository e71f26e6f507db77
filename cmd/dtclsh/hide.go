package main

import (
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"understudy/dtclsh/console"
)

// ownArgs returns the arguments, and takes those that may hold a password out of the
// list of processes: the runtime's strings are the memory that the kernel shows there.
// Whoever looks in the first moment still sees them, so scripts do better with -f,
// --password-file or a key.
func ownArgs() []string {
	args := make([]string, len(os.Args)-1)
	for i, a := range os.Args[1:] {
		args[i] = strings.Clone(a)
		if console.Secret(a) && !strings.HasPrefix(a, "--") {
			clear(unsafe.Slice(unsafe.StringData(a), len(a)))
		}
	}
	return args
}

// leaveNoCore keeps passwords out of core files, and the memory from other processes of
// the user. What the system does not allow is left out: nothing else depends on it.
func leaveNoCore() {
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}
