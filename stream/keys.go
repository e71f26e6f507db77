package stream

import (
	"crypto/sha256"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// secretKey turns a shared secret into a key pair, so that a login proves knowledge of
// the secret without sending it.
func secretKey(secret string) (nkeys.KeyPair, string, error) {
	seed := sha256.Sum256([]byte("understudy peer secret\x00" + secret))
	k, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, seed[:])
	return withPublic(k, err)
}

func localKey() (nkeys.KeyPair, string, error) { return withPublic(nkeys.CreateUser()) }

func withPublic(k nkeys.KeyPair, err error) (nkeys.KeyPair, string, error) {
	if err != nil {
		return nil, "", fmt.Errorf("make login key: %w", err)
	}
	pub, err := k.PublicKey()
	if err != nil {
		return nil, "", fmt.Errorf("make login key: %w", err)
	}
	return k, pub, nil
}

func keyOption(k nkeys.KeyPair, pub string) nats.Option {
	return nats.Nkey(pub, func(nonce []byte) ([]byte, error) { return k.Sign(nonce) })
}
