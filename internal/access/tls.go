package access

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// ServerTLS is for the door of this machine: TLS 1.3, any client certificate, none
// needed. Who holds which key is decided after the handshake. No resumption: whoever
// comes back is looked at again.
func (k *Keyring) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.shown(), nil },
	}
}

// shown is the certificate this machine shows.
func (k *Keyring) shown() *tls.Certificate {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.data.Current.tls
	return &c
}

// clientTLS accepts a server by its key alone. id may be nil.
func clientTLS(id func() *tls.Certificate, accept func(Fingerprint) error) *tls.Config {
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // no names, no issuers: VerifyConnection compares the key
		VerifyConnection: func(cs tls.ConnectionState) error {
			key, err := Presented(cs)
			if err == nil && key.IsZero() {
				err = ErrNoKey
			}
			if err != nil {
				return err
			}
			return accept(key)
		},
	}
	if id != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id(), nil }
	}
	return cfg
}

// Anonymous makes a connection secure without showing a certificate. accept decides by
// the server's key.
func Anonymous(ctx context.Context, conn net.Conn, accept func(Fingerprint) error) (net.Conn, error) {
	return handshake(ctx, conn, clientTLS(nil, accept))
}

// Introduce makes a connection secure and shows this machine's certificate. accept
// decides by the server's key.
func (k *Keyring) Introduce(ctx context.Context, conn net.Conn, accept func(Fingerprint) error) (net.Conn, error) {
	return handshake(ctx, conn, clientTLS(k.shown, accept))
}

func handshake(ctx context.Context, conn net.Conn, cfg *tls.Config) (net.Conn, error) {
	tc := tls.Client(conn, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("secure the connection: %w", err)
	}
	return tc, nil
}

// WrongKeyError: the machine at the address is not the one that is meant.
type WrongKeyError struct {
	Peer string
	Key  Fingerprint
}

func (e *WrongKeyError) Error() string {
	return fmt.Sprintf("what answers is not %s: its key is %s", e.Peer, e.Key.Short())
}

// NotPairedError is ErrNotPaired with the remedy.
type NotPairedError struct{ Peer string }

func (e *NotPairedError) Error() string {
	return fmt.Sprintf("not paired with %s; run: understudy pair invite (on %s), then: understudy pair join ADDRESS CODE (here)", e.Peer, e.Peer)
}

func (e *NotPairedError) Is(target error) bool { return target == ErrNotPaired }

// Secure makes a connection to a paired machine secure: both show their certificates.
// The connection is cut when the peer is removed. *NotPairedError, *WrongKeyError.
func (k *Keyring) Secure(ctx context.Context, conn net.Conn, peer string) (net.Conn, error) {
	var met Fingerprint
	secure, err := k.Introduce(ctx, conn, func(key Fingerprint) error {
		met = key
		return k.checkPeer(peer, key)
	})
	if err != nil {
		return nil, err
	}
	tracked := &peerConn{Conn: secure, raw: conn, ring: k}
	k.mu.Lock()
	k.live[tracked] = peer
	k.mu.Unlock()
	if err := errors.Join(k.met(peer, met), k.checkPeer(peer, met)); err != nil { // it may have been removed meanwhile
		tracked.Close()
		return nil, err
	}
	return tracked, nil
}

func (k *Keyring) checkPeer(name string, key Fingerprint) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys := []Fingerprint{k.data.Current.key} // of ourselves
	if !strings.EqualFold(name, k.name) {
		p := k.data.peer(name)
		if p == nil {
			return &NotPairedError{name}
		}
		keys = p.Keys
	} else if k.data.Next != nil {
		keys = append(keys, k.data.Next.key)
	}
	if !slices.Contains(keys, key) {
		return &WrongKeyError{name, key}
	}
	return nil
}

// peerConn is a connection that is cut when its peer is removed.
type peerConn struct {
	net.Conn
	raw  net.Conn // below it: closing it never waits for the other side
	ring *Keyring
}

func (c *peerConn) Close() error {
	c.ring.mu.Lock()
	delete(c.ring.live, c)
	c.ring.mu.Unlock()
	return c.Conn.Close()
}

// cut ends the connections to a peer. Whoever holds one closes it in turn.
func (k *Keyring) cut(peer string) {
	var conns []*peerConn
	k.mu.Lock()
	for c, name := range k.live {
		if strings.EqualFold(name, peer) {
			conns = append(conns, c)
		}
	}
	k.mu.Unlock()
	for _, c := range conns {
		_ = c.raw.Close() // gone is what it should be
	}
}
