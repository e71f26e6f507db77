package failover

import (
	"net/netip"
	"strings"
	"testing"
)

func TestPlace(t *testing.T) {
	nics := []NIC{
		{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}},
		{Name: "eth1", Addresses: []netip.Prefix{netip.MustParsePrefix("198.51.100.2/25"), netip.MustParsePrefix("2001:db8::2/64")}},
	}
	for _, c := range []struct{ address, nic, want string }{
		{"192.0.2.1", "", "eth0 192.0.2.1/24"}, {"198.51.100.1", "", "eth1 198.51.100.1/25"}, {"2001:db8::1", "", "eth1 2001:db8::1/64"},
		{"192.0.2.1", "eth1", "eth1 192.0.2.1/32"}, {"203.0.113.1", "", "eth0 203.0.113.1/32"}, {"203.0.113.1/28", "eth1", "eth1 203.0.113.1/28"},
		{"192.0.2.1/32", "", "eth0 192.0.2.1/32"}, {"192.0.2.1", "eth9", ""},
	} {
		nic, p, ok := place(nics, Address{Address: c.address, NIC: c.nic})
		if got := nic.Name + " " + p.String(); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%s on %q: %s, %v; want %s", c.address, c.nic, got, ok, c.want)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*Monitor)
		want   string
	}{
		{func(*Monitor) {}, ""},
		{func(m *Monitor) { m.Source = "" }, "source"},
		{func(m *Monitor) { m.Trigger = "some" }, "trigger"},
		{func(m *Monitor) { m.Addresses[0].Address = "127.0.0.1" }, "an IP address of the source"},
		{func(m *Monitor) { m.Addresses[0].Address = "fe80::1" }, "link-local"},
		{func(m *Monitor) { m.Addresses[0].IntervalMS = 1 }, "interval"},
		{func(m *Monitor) { m.Addresses[0].Missed = 65536 }, "missed"},
		{func(m *Monitor) { m.Addresses = append(m.Addresses, m.Addresses[0]) }, "twice"},
		{func(m *Monitor) { m.Scripts = map[string]Script{PreFailover: {Path: "relative"}} }, "absolute"},
		{func(m *Monitor) { m.Scripts = map[string]Script{"other": {Path: "/x"}} }, "script"},
		{func(m *Monitor) { m.Witnesses = []string{"router"} }, "witness"},
	} {
		m := Monitor{Source: "indy", Addresses: []Address{{Address: "192.0.2.1", Watch: true}}}
		m.Complete()
		c.change(&m)
		err := m.Validate()
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}
