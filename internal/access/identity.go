package access

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Fingerprint is the SHA-256 of a certificate's public key (its SubjectPublicKeyInfo).
// The zero value stands for no certificate.
type Fingerprint [sha256.Size]byte

func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// Short is enough for people to tell machines apart, and no proof.
func (f Fingerprint) Short() string { return hex.EncodeToString(f[:8]) }

// IsZero reports whether there is no key.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// MarshalText writes it in hex.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (f *Fingerprint) UnmarshalText(text []byte) error {
	if len(text) != 2*len(f) {
		return fmt.Errorf("fingerprint %.80q: %d hex digits wanted", text, 2*len(f))
	}
	if _, err := hex.Decode(f[:], text); err != nil {
		return fmt.Errorf("fingerprint %.80q: %w", text, err)
	}
	return nil
}

// ErrNoKey: the other side presented no certificate, or one that is no Ed25519 key.
var ErrNoKey = errors.New("no machine key was presented")

// Presented is the key the other side of a finished handshake proved to hold; zero if it
// presented none.
func Presented(cs tls.ConnectionState) (Fingerprint, error) {
	if len(cs.PeerCertificates) == 0 {
		return Fingerprint{}, nil
	}
	cert := cs.PeerCertificates[0]
	if _, ok := cert.PublicKey.(ed25519.PublicKey); !ok {
		return Fingerprint{}, ErrNoKey
	}
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo), nil
}

// identity is a private key with its certificate.
type identity struct {
	Seed []byte `json:"seed"` // of the Ed25519 key
	Cert []byte `json:"cert"` // DER

	tls tls.Certificate
	key Fingerprint
}

// validity of a certificate: nobody looks at it, so it is merely long.
const validity = 100 * 365 * 24 * time.Hour

func newIdentity(name string) (*identity, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make machine key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make machine key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(validity),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, fmt.Errorf("make machine certificate: %w", err)
	}
	id := &identity{Seed: private.Seed(), Cert: der}
	return id, id.load()
}

// load works out what is not stored.
func (id *identity) load() error {
	if len(id.Seed) != ed25519.SeedSize {
		return fmt.Errorf("machine key: %d bytes, want %d", len(id.Seed), ed25519.SeedSize)
	}
	private := ed25519.NewKeyFromSeed(id.Seed)
	cert, err := x509.ParseCertificate(id.Cert)
	if err != nil {
		return fmt.Errorf("machine certificate: %w", err)
	}
	public, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok || !bytes.Equal(public, private.Public().(ed25519.PublicKey)) {
		return errors.New("machine certificate: not of the machine's key")
	}
	id.key = sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	id.tls = tls.Certificate{Certificate: [][]byte{id.Cert}, PrivateKey: private, Leaf: cert}
	return nil
}
