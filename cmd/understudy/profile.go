package main

import (
	"fmt"
	"os"
	"runtime/pprof"
)

// profileVar names a file for a CPU profile of the daemon's whole life: for those who
// look for where the time goes (task bench has an option for it).
const profileVar = "UNDERSTUDY_CPUPROFILE"

// startProfile begins the profile that is asked for, if one is.
func startProfile() (stop func(), err error) {
	path := os.Getenv(profileVar)
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", profileVar, err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", profileVar, err)
	}
	return func() {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "understudy: warning: profile:", err)
		}
	}, nil
}
