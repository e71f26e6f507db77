package failover

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy/internal/stories"
	"understudy/internal/testnode"
)

func TestMain(m *testing.M) { stories.Main(m, nil) }

var must, waitFor, long, scaled = stories.Must, stories.WaitFor, stories.Long, stories.Scaled

// machine is one with a network of its own, whose restarts a story tells from those of its
// daemon.
type machine = stories.Machine

func newMachine(t testing.TB, base, name string, ns *testnode.Namespace) *machine {
	t.Helper()
	m := stories.NewMachine(t, ns, name, filepath.Join(base, name))
	m.Boot = filepath.Join(base, name+".boot")
	reboot(m)
	return m
}

// reboot gives the machine's boot another name: its daemon, started next, takes it that
// the machine restarted.
func reboot(m *machine) {
	must(m.T, os.WriteFile(m.Boot, []byte(time.Now().Format(time.RFC3339Nano)), 0o600))
}
