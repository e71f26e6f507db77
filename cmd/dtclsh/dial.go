package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"understudy/control"
	"understudy/dtclsh/interp"
)

// defaultPort is where nodes listen.
const defaultPort = "6320"

// dialer connects to the home node and, with the same secret, to others.
type dialer struct {
	data   string // data directory of the home node; "" = server
	server string // host:port
	secret string
}

func newDialer(o options) (*dialer, error) {
	if o.server == "" {
		return &dialer{data: o.data}, nil
	}
	if o.secretFile == "" {
		return nil, errors.New("-s needs --secret-file: the file that holds the secret of that daemon's settings")
	}
	raw, err := os.ReadFile(o.secretFile)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	secret := strings.TrimRight(string(raw), "\r\n")
	if secret == "" {
		return nil, fmt.Errorf("secret: %s is empty", o.secretFile)
	}
	return &dialer{server: withPort(o.server), secret: secret}, nil
}

// dial connects to an address, or for "" to the home node.
func (d *dialer) dial(ctx context.Context, address string) (interp.Client, error) {
	secret := d.secret
	if d.data != "" {
		l, err := control.ReadLocal(d.data)
		if err != nil {
			return nil, err
		}
		if address == "" {
			return connected(control.Dial(ctx, l.Address, l.Name, l.Secret))
		}
		secret = l.Secret
	}
	if address == "" {
		address = d.server
	}
	return connected(control.Dial(ctx, withPort(address), "", secret))
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
