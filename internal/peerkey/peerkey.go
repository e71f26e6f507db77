// Package peerkey turns the secret that machines share into a login key, so that a
// login proves knowledge of the secret without sending it.
package peerkey

import (
	"crypto/sha256"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Derive returns the key pair of a secret and its public key.
func Derive(secret string) (nkeys.KeyPair, string, error) {
	seed := sha256.Sum256([]byte("understudy peer secret\x00" + secret))
	return Public(nkeys.FromRawSeed(nkeys.PrefixByteUser, seed[:]))
}

// Public adds the public key to a key pair that was just made.
func Public(k nkeys.KeyPair, err error) (nkeys.KeyPair, string, error) {
	if err != nil {
		return nil, "", fmt.Errorf("make login key: %w", err)
	}
	pub, err := k.PublicKey()
	if err != nil {
		return nil, "", fmt.Errorf("make login key: %w", err)
	}
	return k, pub, nil
}

// Login logs a client in with a key.
func Login(k nkeys.KeyPair, pub string) nats.Option {
	return nats.Nkey(pub, k.Sign)
}

// Option logs a client in with the key of a secret.
func Option(secret string) nats.Option {
	return func(o *nats.Options) error {
		k, pub, err := Derive(secret)
		if err != nil {
			return err
		}
		return Login(k, pub)(o)
	}
}
