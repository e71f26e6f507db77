package access

import (
	"crypto/ed25519"
	"crypto/sha256"
	"strings"
)

// Sizes of what Sign makes, in bytes.
const (
	signedKey = ed25519.PublicKeySize
	SignedLen = signedKey + ed25519.SignatureSize
)

// spkiPrefix is what stands before an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410 4).
const spkiPrefix = "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"

// Sign proves that this machine has seen msg: its public key and its signature.
func (k *Keyring) Sign(msg []byte) []byte {
	k.mu.Lock()
	private := k.data.Current.tls.PrivateKey.(ed25519.PrivateKey)
	k.mu.Unlock()
	return append([]byte(private.Public().(ed25519.PublicKey)), ed25519.Sign(private, msg)...)
}

// Signed reports whether sig is the paired machine's own Sign of msg.
func (k *Keyring) Signed(machine string, msg, sig []byte) bool {
	if len(sig) != SignedLen {
		return false
	}
	public := ed25519.PublicKey(sig[:signedKey])
	name, ok := k.MachineOf(sha256.Sum256(append([]byte(spkiPrefix), public...)))
	return ok && strings.EqualFold(name, machine) && ed25519.Verify(public, msg, sig[signedKey:])
}
