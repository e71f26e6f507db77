package failover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"understudy/internal/atomicfile"
	"understudy/internal/bootid"
)

var _ Seat = Kernel{}

// savedRoute is a route of a network card on disk. Those that the kernel makes itself with
// an address are left out.
type savedRoute struct {
	Dst      string `json:"dst,omitempty"` // CIDR; "": default
	Gw       string `json:"gw,omitempty"`
	Src      string `json:"src,omitempty"`
	Table    int    `json:"table,omitempty"`
	Priority int    `json:"priority,omitempty"`
	Protocol int    `json:"protocol,omitempty"`
	Scope    int    `json:"scope,omitempty"`
	Flags    int    `json:"flags,omitempty"`
	V6       bool   `json:"v6,omitempty"`
}

// maxRoutes bounds what is kept of a card.
const maxRoutes = 256

// Routes lists those of nic that somebody set up.
func (Kernel) Routes(nic string) (json.RawMessage, error) {
	l, err := netlink.LinkByName(nic)
	if err != nil {
		return nil, fmt.Errorf("routes of %s: %w", nic, err)
	}
	var out []savedRoute
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(l, family)
		if err != nil {
			return nil, fmt.Errorf("routes of %s: %w", nic, err)
		}
		for _, r := range routes {
			if r.Protocol == unix.RTPROT_KERNEL || r.Protocol == unix.RTPROT_RA || len(r.MultiPath) > 0 || len(out) == maxRoutes {
				continue
			}
			s := savedRoute{Table: r.Table, Priority: r.Priority, Protocol: int(r.Protocol), Scope: int(r.Scope), Flags: r.Flags & unix.RTNH_F_ONLINK, V6: family == netlink.FAMILY_V6}
			if r.Dst != nil {
				s.Dst = r.Dst.String()
			}
			if r.Gw != nil {
				s.Gw = r.Gw.String()
			}
			if r.Src != nil {
				s.Src = r.Src.String()
			}
			out = append(out, s)
		}
	}
	return json.Marshal(out)
}

// Restore gives nic the address and what it lacks of the routes.
func (k Kernel) Restore(nic string, p netip.Prefix, raw json.RawMessage) error {
	if err := k.Add(nic, p); err != nil {
		return err
	}
	var routes []savedRoute
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &routes); err != nil {
			return fmt.Errorf("routes with %s: %w", p, err)
		}
	}
	l, err := netlink.LinkByName(nic)
	if err != nil {
		return fmt.Errorf("restore %s on %s: %w", p, nic, err)
	}
	var errs []error
	for _, s := range routes {
		if s.V6 != p.Addr().Is6() {
			continue
		}
		r := netlink.Route{LinkIndex: l.Attrs().Index, Table: s.Table, Priority: s.Priority, Protocol: netlink.RouteProtocol(s.Protocol), Scope: netlink.Scope(s.Scope), Flags: s.Flags,
			Gw: net.ParseIP(s.Gw), Src: net.ParseIP(s.Src), Family: netlink.FAMILY_V4}
		if s.V6 {
			r.Family = netlink.FAMILY_V6
		}
		if s.Dst != "" {
			_, dst, err := net.ParseCIDR(s.Dst)
			if err != nil {
				errs = append(errs, fmt.Errorf("route %s: %w", s.Dst, err))
				continue
			}
			r.Dst = dst
		}
		// One whose gateway or source comes with another address follows with that.
		if err := netlink.RouteAdd(&r); err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("route to %s by %s: %w", s.Dst, s.Gw, err))
		}
	}
	return errors.Join(errs...)
}

// Changes watches addresses and cards. Where it cannot, it says so every tenth of a
// second, and the caller looks.
func (Kernel) Changes(ctx context.Context) <-chan struct{} {
	out := make(chan struct{}, 1)
	updates := make(chan netlink.AddrUpdate, 64)
	links := make(chan netlink.LinkUpdate, 64)
	err := errors.Join(netlink.AddrSubscribe(updates, ctx.Done()), netlink.LinkSubscribe(links, ctx.Done()))
	go func() {
		var tick <-chan time.Time
		if err != nil {
			t := time.NewTicker(100 * time.Millisecond)
			defer t.Stop()
			tick = t.C
		}
		for {
			select {
			case <-ctx.Done():
				for updates != nil || links != nil { // until their readers end
					select {
					case _, ok := <-updates:
						if !ok {
							updates = nil
						}
					case _, ok := <-links:
						if !ok {
							links = nil
						}
					case <-time.After(time.Second):
						return
					}
				}
				return
			case _, ok := <-updates:
				if !ok {
					updates = nil
				}
			case _, ok := <-links:
				if !ok {
					links = nil
				}
			case <-tick:
			}
			notify(out)
		}
	}()
	return out
}

// arpIgnore of all cards: at 8 the kernel answers no question for an IPv4 address. IPv6
// looks itself before it uses an address (duplicate address detection).
const (
	arpIgnore = "/proc/sys/net/ipv4/conf/all/arp_ignore"
	muted     = "8"
)

// Mute sets it, or sets it back to what it was.
func (Kernel) Mute(dir string, on bool) error {
	note := filepath.Join(dir, "muted")
	raw, err := os.ReadFile(note)
	noted := err == nil
	before, boot, _ := strings.Cut(strings.TrimSpace(string(raw)), " ")
	switch {
	case on && (!noted || boot != bootid.Get()):
		now, err := os.ReadFile(arpIgnore)
		if err != nil {
			return fmt.Errorf("be mute: %w", err)
		}
		text := strings.TrimSpace(string(now)) + " " + bootid.Get()
		if err := atomicfile.Write(note, []byte(text+"\n"), 0o600); err != nil {
			return fmt.Errorf("be mute: %w", err)
		}
		fallthrough
	case on:
		if err := os.WriteFile(arpIgnore, []byte(muted), 0); err != nil {
			return fmt.Errorf("be mute: %w", err)
		}
	case noted:
		if boot == bootid.Get() && slices.Contains([]string{"0", "1", "2", "3", "8"}, before) {
			if err := os.WriteFile(arpIgnore, []byte(before), 0); err != nil {
				return fmt.Errorf("answer again: %w", err)
			}
		}
		if err := os.Remove(note); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("answer again: %w", err)
		}
	}
	return nil
}
