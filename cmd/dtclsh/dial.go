package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"understudy/control"
	"understudy/dtclsh/interp"
	"understudy/internal/access"
)

// defaultPort is where nodes listen.
const defaultPort = "6320"

// dialer connects to the home node, and to others as a guest or as who logged in there.
// Several goroutines may dial.
type dialer struct {
	data   string // data directory of the home node; "" = server
	server string // host:port
	home   control.Login
	node   string // name of the home node, if a key file tells it
	logins map[string]control.Login
	known  access.Known
	trust  access.Fingerprint                                         // of --trust; zero: none given
	ask    func(ctx context.Context, question string) (string, error) // of a person, a password: it is not shown
	line   func(ctx context.Context, question string) (string, error) // of a person, anything else

	mu     sync.Mutex         // guards logins and passed
	passed map[string]*record // by address
}

// record is how logins with one password at one address went.
type record struct {
	in      bool // it was accepted once
	refused int  // since then, one after the other
	err     error
}

// maxRefused is how often a password that was accepted before is tried again when it is
// refused: the session may have ended for a change of rights that was under way. One that
// never was is not tried again: a script of many commands would lock the account.
const maxRefused = 3

func newDialer(ctx context.Context, o options) (*dialer, error) {
	d := &dialer{logins: map[string]control.Login{}, passed: map[string]*record{}, known: access.Known{Path: access.KnownFile(os.Getenv)}, ask: askPassword, line: askLine}
	if o.trust != "" {
		if err := d.trust.UnmarshalText([]byte(strings.TrimSpace(o.trust))); err != nil {
			return nil, fmt.Errorf("--trust: %w", err)
		}
	}
	switch {
	case o.keyFile != "":
		return d, d.useKey(o)
	case o.server == "":
		d.data = o.data
		return d, nil
	case o.user == "":
		return nil, errors.New("-s needs -u USER, or --key FILE instead of both")
	}
	d.server = withPort(o.server)
	password, err := d.password(ctx, o, o.user)
	if err != nil {
		return nil, err
	}
	d.home = control.Login{User: o.user, Password: password}
	return d, nil
}

// useKey takes server and rights from a key file.
func (d *dialer) useKey(o options) error {
	f, err := access.ReadKeyFile(o.keyFile)
	if err != nil {
		return err
	}
	d.server, d.node = f.Address, f.Node
	if o.server != "" {
		d.server = withPort(o.server)
	}
	d.home = control.Login{Key: &f, Accept: control.AcceptKeys(append(f.Server, d.trust)...)}
	return nil
}

// password reads it from the file that is named, or asks for it.
func (d *dialer) password(ctx context.Context, o options, user string) (string, error) {
	if o.passwordFile == "" {
		return d.askFor(ctx, user, o.server)
	}
	raw, err := os.ReadFile(o.passwordFile)
	if err != nil {
		return "", fmt.Errorf("password: %w", err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	clear(raw)
	return strings.TrimSuffix(line, "\r"), nil
}

func (d *dialer) askFor(ctx context.Context, user, machine string) (string, error) {
	if machine == "" {
		machine = "this machine"
	}
	password, err := d.ask(ctx, fmt.Sprintf("Password of %s on %s: ", user, machine))
	if errors.Is(err, errNobody) {
		return "", fmt.Errorf("password: %w; give --password-file", err)
	}
	if err != nil {
		return "", fmt.Errorf("password: %w", err)
	}
	return password, nil
}

// dial connects to an address, or for "" to the home node.
func (d *dialer) dial(ctx context.Context, address string) (interp.Client, error) {
	d.mu.Lock()
	login, ok := d.logins[address]
	d.mu.Unlock()
	if ok {
		return d.dialAs(ctx, address, login)
	}
	if address != "" {
		return d.dialAs(ctx, address, control.Login{})
	}
	if d.data != "" {
		return connected(control.DialLocal(ctx, d.data))
	}
	return d.dialAs(ctx, "", d.home)
}

// login connects as a user, and again so after an interruption.
func (d *dialer) login(ctx context.Context, address, user, password string, given bool) (interp.Client, error) {
	if !given {
		var err error
		if password, err = d.askFor(ctx, user, address); err != nil {
			return nil, err
		}
	}
	login := control.Login{User: user, Password: password}
	d.mu.Lock()
	delete(d.passed, withPort(address))
	d.mu.Unlock()
	c, err := d.dialAs(ctx, address, login)
	if err == nil {
		d.mu.Lock()
		d.logins[address] = login
		d.mu.Unlock()
	}
	return c, err
}

func (d *dialer) forget(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.logins, address)
}

// dialAs connects with a login; "" is the home node.
func (d *dialer) dialAs(ctx context.Context, address string, login control.Login) (interp.Client, error) {
	node := ""
	if address == "" {
		if address, node = d.server, d.node; d.data != "" {
			l, err := control.ReadLocal(d.data)
			if err != nil {
				return nil, err
			}
			address, node, login.Accept = l.Address, l.Name, control.AcceptKeys(l.Keys...)
		}
	}
	address = withPort(address)
	var first access.Fingerprint // met for the first time, and to be remembered
	if login.Accept == nil {
		accept, err := d.acceptor(ctx, address, login.User == "", &first)
		if err != nil {
			return nil, err
		}
		login.Accept = accept
	}
	c, err := d.knock(ctx, address, node, login)
	if err == nil && !first.IsZero() {
		if err = d.known.Add(address, first); err != nil {
			c.Close()
		}
	}
	return connected(c, err)
}

// knock is control.Dial, but for passwords that were refused.
func (d *dialer) knock(ctx context.Context, address, node string, login control.Login) (*control.Client, error) {
	if login.User == "" {
		return control.Dial(ctx, address, node, login)
	}
	d.mu.Lock()
	r := d.passed[address]
	if r == nil {
		r = new(record)
		d.passed[address] = r
	}
	last := *r
	d.mu.Unlock()
	if last.refused >= maxRefused || last.refused > 0 && !last.in {
		return nil, last.err
	}
	c, err := control.Dial(ctx, address, node, login)
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := new(control.Error); errors.As(err, &e) && e.Code == control.Denied {
		r.refused, r.err = r.refused+1, err
	} else if err == nil {
		*r = record{in: true}
	}
	return c, err
}

// acceptor knows the key of an address from the home node, which is paired with it, or
// else from the known machines. A machine met for the first time is shown to the person,
// and taken if it is confirmed, or named by --trust; a guest tells it nothing, and need
// not know it.
func (d *dialer) acceptor(ctx context.Context, address string, guest bool, first *access.Fingerprint) (func(access.Fingerprint) error, error) {
	if keys := d.pairedKeys(ctx, address); len(keys) > 0 {
		return control.AcceptKeys(keys...), nil
	}
	want, known, err := d.known.Find(address)
	switch {
	case err != nil:
		return nil, err
	case !d.trust.IsZero() && address == d.server:
		return func(key access.Fingerprint) error {
			*first = d.trust
			return control.AcceptKeys(d.trust)(key)
		}, nil
	case known:
		return func(key access.Fingerprint) error {
			err := control.AcceptKeys(want)(key)
			if err != nil {
				err = fmt.Errorf("%w; %s has %s since the first login. If you know why it changed (compare with: understudy pair list, on that machine), give --trust %s, or remove the line",
					err, d.known.Path, want.Short(), key)
			}
			return err
		}, nil
	case guest:
		return control.AcceptAny, nil
	}
	return func(key access.Fingerprint) error {
		if err := d.confirm(ctx, address, key); err != nil {
			return err
		}
		*first = key
		return nil
	}, nil
}

// confirm asks the person about a machine that was never met.
func (d *dialer) confirm(ctx context.Context, address string, key access.Fingerprint) error {
	answer, err := d.line(ctx, fmt.Sprintf("%s is not known here. Its key is %s\n(compare with: understudy pair list, on that machine). Trust it from now on? yes/no: ", address, key))
	if err != nil {
		return fmt.Errorf("%s is not known here, and nobody can be asked: compare its key with understudy pair list on that machine, then give --trust %s", address, key)
	}
	if !strings.EqualFold(strings.TrimSpace(answer), "yes") {
		return fmt.Errorf("%s is not trusted", address)
	}
	return nil
}

// pairedKeys asks the home node for the keys of the machine at an address.
func (d *dialer) pairedKeys(ctx context.Context, address string) (keys []access.Fingerprint) {
	if d.data == "" {
		return nil
	}
	c, err := control.DialLocal(ctx, d.data)
	if err != nil {
		return nil // there is no home to ask
	}
	defer c.Close()
	var list control.MachineList
	if c.Call(ctx, "machine.list", struct{}{}, &list) != nil {
		return nil
	}
	for _, m := range list.Machines {
		if withPort(m.Address) != address {
			continue
		}
		for _, text := range m.Keys {
			var key access.Fingerprint
			if key.UnmarshalText([]byte(text)) == nil {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// connected keeps a nil *control.Client from becoming a Client that is not nil.
func connected(c *control.Client, err error) (interp.Client, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

func withPort(address string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), defaultPort)
}
