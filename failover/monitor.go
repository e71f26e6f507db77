package failover

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"
)

// The words of a monitor's settings.
const (
	TriggerAll = "all" // every watched address is silent
	TriggerAny = "any" // one is

	ProbePing    = "ping"    // ICMP echo
	ProbeService = "service" // the source's daemon itself
	ProbeBoth    = "both"    // either of them counts as an answer
)

// Names of the scripts, as keys of Monitor.Scripts.
const (
	PreFailover  = "prefailover"
	PostFailover = "postfailover"
	PreFailback  = "prefailback"
	PostFailback = "postfailback"
	Fence        = "fence" // makes sure that the source is off; a takeover waits for exit 0
)

// Defaults of an address (F13; PingFrequency), and of the port of the service probe.
const (
	DefaultInterval      = 5 * time.Second
	DefaultMissed        = 5
	DefaultMissedService = 20
	DefaultPort          = 6320
)

// Limits: what a monitor may hold.
const (
	MaxMonitors  = 256
	maxAddresses = 64
	maxWitnesses = 16
	minInterval  = 50 * time.Millisecond
	maxInterval  = 65535 * time.Second
)

// Monitor says which source is watched, how, and what is taken over. Times are
// milliseconds.
type Monitor struct {
	Source        string            `json:"source"` // machine watched; the monitor's name
	Generation    uint64            `json:"generation"`
	Addresses     []Address         `json:"addresses,omitempty"`
	Trigger       string            `json:"trigger"`
	Automatic     bool              `json:"automatic"`      // take over without asking (F50, F52)
	KeepAddresses bool              `json:"keep_addresses"` // addresses do not move; scripts alone do the work (F31)
	MoveName      bool              `json:"move_name"`      // told to the scripts; nothing else changes names (F30)
	SkipQueue     bool              `json:"skip_queue"`     // do not wait until what was received is applied (F34)
	NoLease       bool              `json:"no_lease"`       // the source keeps its addresses when it is cut off
	Witnesses     []string          `json:"witnesses,omitempty"`
	Scripts       map[string]Script `json:"scripts,omitempty"`
}

// Address is one of the source's.
type Address struct {
	Address    string `json:"address"` // IP, or IP/bits; without bits those of the network card's own network
	Watch      bool   `json:"watch"`
	Take       bool   `json:"take"`
	NIC        string `json:"nic,omitempty"` // of the target; "": the one in the address's network
	IntervalMS int64  `json:"interval_ms"`
	Missed     int    `json:"missed"`
	Probe      string `json:"probe"`
	Port       int    `json:"port,omitempty"` // of the service probe
}

// Script is a program that runs on the target at a step.
type Script struct {
	Path    string   `json:"path"`
	Args    []string `json:"args,omitempty"`
	Wait    bool     `json:"wait"`               // the next step waits for its end
	LimitMS int64    `json:"limit_ms,omitempty"` // 0: ten minutes
}

// IP is the address without its network.
func (a Address) IP() netip.Addr {
	if p, err := netip.ParsePrefix(a.Address); err == nil {
		return p.Addr().Unmap()
	}
	ip, _ := netip.ParseAddr(a.Address)
	return ip.Unmap()
}

// Bits is the length of its network's prefix; -1: not given.
func (a Address) Bits() int {
	if p, err := netip.ParsePrefix(a.Address); err == nil {
		return p.Bits()
	}
	return -1
}

// Interval between two requests.
func (a Address) Interval() time.Duration { return time.Duration(a.IntervalMS) * time.Millisecond }

// Timeout is the time to fail: interval times missed (F6).
func (a Address) Timeout() time.Duration { return a.Interval() * time.Duration(a.Missed) }

// Complete fills in the defaults of what was left out.
func (m *Monitor) Complete() {
	if m.Trigger == "" {
		m.Trigger = TriggerAll
	}
	for i := range m.Addresses {
		a := &m.Addresses[i]
		if a.Probe == "" {
			a.Probe = ProbePing
		}
		if a.IntervalMS == 0 {
			a.IntervalMS = DefaultInterval.Milliseconds()
			if a.Probe == ProbeService {
				a.IntervalMS = 1000
			}
		}
		if a.Missed == 0 {
			a.Missed = DefaultMissed
			if a.Probe == ProbeService {
				a.Missed = DefaultMissedService
			}
		}
		if a.Port == 0 {
			a.Port = DefaultPort
		}
	}
}

// Validate reports all problems at once.
func (m *Monitor) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if m.Source == "" || len(m.Source) > 63 {
		bad("source: %q: the name of the machine to watch", m.Source)
	}
	if m.Trigger != TriggerAll && m.Trigger != TriggerAny {
		bad("trigger: %q: all or any", m.Trigger)
	}
	if len(m.Addresses) > maxAddresses || len(m.Witnesses) > maxWitnesses {
		bad("addresses: at most %d, and %d witnesses", maxAddresses, maxWitnesses)
	}
	seen := map[netip.Addr]bool{}
	for _, a := range m.Addresses {
		if err := a.validate(); err != nil {
			errs = append(errs, err)
		}
		if seen[a.IP()] {
			bad("address %s: given twice", a.Address)
		}
		seen[a.IP()] = true
	}
	for _, w := range m.Witnesses {
		if ip, err := netip.ParseAddr(w); err != nil || ip.Zone() != "" {
			bad("witness %q: an IP address", w)
		}
	}
	for name, s := range m.Scripts {
		if !knownScript(name) {
			bad("script %q: prefailover, postfailover, prefailback, postfailback or fence", name)
		}
		if !filepath.IsAbs(s.Path) {
			bad("script %s: %q: an absolute path", name, s.Path)
		}
		if s.LimitMS < 0 || s.LimitMS > 24*time.Hour.Milliseconds() {
			bad("script %s: limit of %d ms: 0 to a day", name, s.LimitMS)
		}
	}
	return errors.Join(errs...)
}

func knownScript(name string) bool {
	switch name {
	case PreFailover, PostFailover, PreFailback, PostFailback, Fence:
		return true
	}
	return false
}

func (a Address) validate() error {
	ip := a.IP()
	switch {
	case !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback() || ip.Zone() != "":
		return fmt.Errorf("address %q: an IP address of the source, with or without /bits", a.Address)
	case ip.IsLinkLocalUnicast() && ip.Is6():
		return fmt.Errorf("address %q: link-local addresses cannot be taken over", a.Address)
	case a.Interval() < minInterval || a.Interval() > maxInterval:
		return fmt.Errorf("address %s: interval of %v: %v to %v", a.Address, a.Interval(), minInterval, maxInterval)
	case a.Missed < 1 || a.Missed > 65535:
		return fmt.Errorf("address %s: %d missed: 1 to 65535", a.Address, a.Missed)
	case a.Probe != ProbePing && a.Probe != ProbeService && a.Probe != ProbeBoth:
		return fmt.Errorf("address %s: probe %q: ping, service or both", a.Address, a.Probe)
	case a.Port < 1 || a.Port > 65535:
		return fmt.Errorf("address %s: port %d: 1 to 65535", a.Address, a.Port)
	}
	return nil
}

// Watchable reports whether something is watched.
func (m *Monitor) Watchable() bool {
	for _, a := range m.Addresses {
		if a.Watch {
			return true
		}
	}
	return false
}
