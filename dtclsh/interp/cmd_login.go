package interp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// Logins: one session a machine, of which the last login counts.

// defaultPort is where an address without a port is.
const defaultPort = "6320"

// levelNames are what a login says, and its value (spec dtcl 1.10).
var levelNames = map[string]struct {
	value int64
	text  string
}{
	"none":    {0, "DT_NO_ACCESS"},
	"monitor": {1, "DT_MONITOR_ACCESS"},
	"admin":   {2, "DT_FULL_ACCESS"},
}

func (in *Interp) login(ctx context.Context, c *syntax.Call) (answer, error) {
	name, _, err1 := in.arg(c, "machine")
	user, named, err2 := in.arg(c, "user")
	password, given, err3 := in.arg(c, "password")
	if err := errors.Join(err1, err2, err3); err != nil {
		return answer{}, err
	}
	address, err := in.address(ctx, name)
	if err != nil {
		return answer{}, err
	}
	var m Client
	switch {
	case !named: // with the rights this program has without a password
		m, err = in.dial(ctx, address)
	case in.cfg.Login == nil:
		return answer{}, fail(syntax.NotThisOne, "", "this program cannot log in")
	default:
		m, err = in.cfg.Login(ctx, address, user, password, given)
	}
	var refused *control.Error
	if errors.As(err, &refused) && refused.Code == control.Denied {
		in.warn(refused.Msg)
		return levelAnswer("none"), nil
	}
	if err != nil {
		return answer{}, err
	}
	in.replace(address, m)
	var s control.Session
	if err := in.askOn(ctx, m, "session", struct{}{}, &s); err != nil {
		return answer{}, err
	}
	return levelAnswer(s.Level), nil
}

func levelAnswer(level string) answer {
	l := levelNames[level]
	return answer{value: number(l.value), lines: []string{"User access level set to " + l.text}, json: map[string]string{"level": level}}
}

// replace makes m the session with the machine at address.
func (in *Interp) replace(address string, m Client) {
	if old := in.clients[address]; old != nil && old != m {
		old.Close()
	}
	in.clients[address] = m
}

func (in *Interp) logout(ctx context.Context, c *syntax.Call) (answer, error) {
	name, _, err := in.arg(c, "machine")
	if err != nil {
		return answer{}, err
	}
	address, err := in.address(ctx, name)
	if err != nil {
		return answer{}, err
	}
	if m := in.clients[address]; m != nil {
		delete(in.clients, address)
		m.Close()
	}
	if in.cfg.Forget != nil {
		in.cfg.Forget(address)
	}
	return said("Logged out from %s", name), nil
}

// address finds where a machine is without asking it: by its name as the home node
// knows it, or else the name is HOST[:PORT] itself; "" is the home node.
func (in *Interp) address(ctx context.Context, name string) (string, error) {
	h, err := in.home(ctx)
	if err != nil { // there is none: then names are addresses
		return name, nil
	}
	if strings.EqualFold(name, h.Node()) || strings.EqualFold(name, "localhost") {
		return "", nil
	}
	var list control.MachineList
	if err := in.askOn(ctx, h, "machine.list", struct{}{}, &list); err != nil {
		if e := new(control.Error); errors.As(err, &e) && e.Code == control.Denied {
			return name, nil // a guest at home
		}
		return "", fmt.Errorf("machines known at home: %w", err)
	}
	for _, m := range list.Machines {
		if strings.EqualFold(m.Name, name) || m.Address == net.JoinHostPort(strings.Trim(name, "[]"), defaultPort) {
			return m.Address, nil // one session, whether its name is said or its address
		}
	}
	return name, nil
}
