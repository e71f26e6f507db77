// Package failpoint lets tests end the process at a named moment, and break a named
// mechanism on purpose, to prove that a test notices.
//
// Nothing happens unless a test arms it, in the process that is to fail: the daemons of
// tests are children of the test program, which call ArmFromEnv; no program of the
// product does. Unarmed, a point costs one load of a pointer that is never written.
//
// A point is one line where the moment is:
//
//	failpoint.Hit(failpoint.ApplyBefore)
//
// and so is a plant, where the mechanism is:
//
//	if failpoint.Planted(failpoint.PlantConfirmEarly) { ... the wrong order ... }
package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Env is where a test's child finds what to arm: points and plants by name, separated
// by commas. A point may say how many hits are survived: "apply.after=7".
const Env = "UNDERSTUDY_FAILPOINTS"

type state struct {
	points map[Point]*atomic.Int64 // hits left to survive
	plants map[Plant]bool
}

var armed atomic.Pointer[state]

// end ends the process as kill -9 does.
var end = func() {
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {} // the signal is under way
}

// Hit ends the process if p is armed and its count is used up. Any goroutine may call it.
func Hit(p Point) {
	if s := armed.Load(); s != nil {
		s.hit(p)
	}
}

func (s *state) hit(p Point) {
	if left := s.points[p]; left != nil && left.Add(-1) == -1 {
		end()
	}
}

// Planted reports whether the mechanism p is to be broken.
func Planted(p Plant) bool {
	s := armed.Load()
	return s != nil && s.plants[p]
}

// ArmFromEnv arms what Env says. An unknown name is an error: it would prove nothing.
func ArmFromEnv() error { return Arm(os.Getenv(Env)) }

// Arm arms points and plants in this process, in the form of Env, instead of what was
// armed before.
func Arm(what string) error {
	s := &state{points: map[Point]*atomic.Int64{}, plants: map[Plant]bool{}}
	for name := range strings.SplitSeq(what, ",") {
		if name == "" {
			continue
		}
		name, count, counted := strings.Cut(name, "=")
		n, err := uint64(0), error(nil)
		if counted {
			if n, err = strconv.ParseUint(count, 10, 31); err != nil {
				return fmt.Errorf("arm %s: %w", name, err)
			}
		}
		switch {
		case points[Point(name)] != "":
			left := new(atomic.Int64)
			left.Store(int64(n))
			s.points[Point(name)] = left
		case plants[Plant(name)] != "" && !counted:
			s.plants[Plant(name)] = true
		default:
			return fmt.Errorf("arm %s: no such point or plant", name)
		}
	}
	if len(s.points)+len(s.plants) == 0 {
		s = nil
	}
	armed.Store(s)
	return nil
}

// Armed reports whether a point is armed.
func Armed() bool {
	s := armed.Load()
	return s != nil && len(s.points) > 0
}

// At is the form in Env of a point that survives n hits.
func At(p Point, n int) string { return string(p) + "=" + strconv.Itoa(n) }
