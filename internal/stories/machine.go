package stories

import (
	"context"
	"os"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/testnode"
	"understudy/node"
)

// callLimit ends a call of a verb: longer than any verb is told to wait.
const callLimit = 3 * time.Minute

// Machine is a daemon with its settings, over restarts. One goroutine calls its methods.
type Machine struct {
	T     testing.TB
	Cfg   node.Config         // of the next start
	NS    *testnode.Namespace // nil: that of the test
	D     *testnode.Daemon    // since the first start
	Plant string              // failpoints armed at every start
	Boot  string              // file that stands for the kernel's name of this boot; "": the kernel's
	ctl   *control.Client
}

// NewMachine is one that does not run yet. In a namespace it listens at the usual port of
// every address, else at a loopback address of its own.
func NewMachine(t testing.TB, ns *testnode.Namespace, name, data string) *Machine {
	t.Helper()
	m := &Machine{T: t, NS: ns, Cfg: node.DefaultConfig()}
	m.Cfg.Name, m.Cfg.Data, m.Cfg.Listen = name, data, "0.0.0.0:"+node.DefaultPort
	if ns == nil {
		m.Cfg.Listen = testnode.Loopback() + ":0"
	}
	m.Cfg.NetworkRetry = 100 * time.Millisecond
	Must(t, os.MkdirAll(data, 0o700))
	t.Cleanup(m.Close)
	return m
}

// Introduce makes machines known to each other that do not run.
func Introduce(t testing.TB, machines ...*Machine) {
	t.Helper()
	var homes []testnode.Home
	for _, m := range machines {
		homes = append(homes, testnode.Home{Name: m.Cfg.Name, Data: m.Cfg.Data})
	}
	testnode.Pair(t, homes...)
}

// Start runs the daemon, from the second time on at the address of the first.
func (m *Machine) Start() {
	m.T.Helper()
	m.StartArmed("")
}

// StartArmed starts the daemon so that it ends with SIGKILL at a failpoint, which it reaches
// after its start.
func (m *Machine) StartArmed(what string) {
	m.T.Helper()
	m.StartDoomed(what)
	if what != "" || m.Plant != "" { // it counted as ready at once
		WaitFor(m.T, m.Cfg.Name+" to answer", func() bool { return m.Try("status", struct{}{}, nil) == nil })
	}
}

// StartDoomed is StartArmed for a failpoint that may be part of the start.
func (m *Machine) StartDoomed(what string) {
	m.T.Helper()
	m.Close()
	if m.Plant != "" {
		what = m.Plant + "," + what
	}
	m.D = testnode.StartIn(m.T, m.NS, m.Cfg.Name, settings{Node: &m.Cfg, Arm: what, Boot: m.Boot})
	if m.NS == nil {
		m.Cfg.Listen = m.D.Addr()
	}
}

// Close ends the connection to the daemon. The next call opens another one.
func (m *Machine) Close() {
	if m.ctl != nil {
		m.ctl.Close()
		m.ctl = nil
	}
}

// Kill ends the daemon with SIGKILL.
func (m *Machine) Kill() {
	m.T.Helper()
	m.Close()
	m.D.Kill()
}

// Again kills the daemon and starts it.
func (m *Machine) Again() {
	m.T.Helper()
	m.Kill()
	m.Start()
}

// Stop ends the daemon in good order.
func (m *Machine) Stop() {
	m.T.Helper()
	m.Close()
	m.D.Stop()
}

// Restart stops the daemon in good order and starts it.
func (m *Machine) Restart() {
	m.T.Helper()
	m.Stop()
	m.Start()
}

// Other is the same daemon with a connection of its own, for a call that waits in another
// goroutine.
func (m *Machine) Other() *Machine {
	o := *m
	o.ctl = nil
	m.T.Cleanup(o.Close)
	return &o
}

// Try calls a verb, over the loopback device of the daemon's namespace.
func (m *Machine) Try(verb string, req, reply any) error {
	m.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	if m.ctl == nil {
		err := m.NS.Do(func() (err error) {
			m.ctl, err = control.DialLocal(ctx, m.Cfg.Data)
			return err
		})
		if err != nil {
			return err
		}
	}
	return m.ctl.Call(ctx, verb, req, reply)
}

// Ask calls a verb that has to succeed.
func (m *Machine) Ask(verb string, req, reply any) {
	m.T.Helper()
	if err := m.Try(verb, req, reply); err != nil {
		m.T.Fatalf("%s: %s: %v", m.Cfg.Name, verb, err)
	}
}

// Status is the machine's view of its connections and replicas.
func (m *Machine) Status() (st control.Status) {
	m.T.Helper()
	m.Ask("status", struct{}{}, &st)
	return st
}

// Happened counts the events with a number.
func (m *Machine) Happened(id int) (n int) {
	m.T.Helper()
	var list control.Events
	m.Ask("events", control.EventsRequest{}, &list)
	for _, e := range list.Events {
		if e.ID == id {
			n++
		}
	}
	return n
}
