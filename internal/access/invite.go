package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Bounds of invitations.
const (
	maxInvites    = 16
	MaxValid      = 24 * time.Hour
	DefaultValid  = 15 * time.Minute
	completeLimit = time.Minute // from the right secret to the end of the pairing
)

// Errors of invitations.
var (
	ErrInvite  = errors.New("no invitation has this code: it was used, it expired, or it was never made here")
	ErrInvites = errors.New("too many open invitations")
)

// Invites are the open invitations of this machine. They are forgotten when the daemon
// ends. Safe for use by several goroutines.
type Invites struct {
	now func() time.Time

	mu    sync.Mutex // guards what follows
	open  map[[sha256.Size]byte]time.Time
	taken map[Fingerprint]time.Time // by whom, until when it may be completed
}

// NewInvites begins with none.
func NewInvites() *Invites {
	return &Invites{now: time.Now, open: map[[sha256.Size]byte]time.Time{}, taken: map[Fingerprint]time.Time{}}
}

// Make opens an invitation to the machine with this key.
func (i *Invites) Make(key Fingerprint, valid time.Duration) (Code, error) {
	if valid <= 0 || valid > MaxValid {
		return Code{}, fmt.Errorf("an invitation is valid for up to %v, not %v", MaxValid, valid)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.expire()
	if len(i.open) >= maxInvites {
		return Code{}, ErrInvites
	}
	c := NewCode(key)
	i.open[sha256.Sum256([]byte(c.Password()))] = i.now().Add(valid)
	return c, nil
}

// Take uses an invitation up: whoever holds key has to complete the pairing within a
// minute. ErrInvite if there is none with this secret.
func (i *Invites) Take(secret string, key Fingerprint) error {
	sum := sha256.Sum256([]byte(secret))
	i.mu.Lock()
	defer i.mu.Unlock()
	i.expire()
	for have := range i.open {
		if subtle.ConstantTimeCompare(have[:], sum[:]) == 1 {
			delete(i.open, have)
			i.taken[key] = i.now().Add(completeLimit)
			return nil
		}
	}
	return ErrInvite
}

// Complete ends a pairing that Take began.
func (i *Invites) Complete(key Fingerprint) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.expire()
	if _, ok := i.taken[key]; !ok {
		return ErrInvite
	}
	delete(i.taken, key)
	return nil
}

// Open counts the invitations that can be used.
func (i *Invites) Open() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.expire()
	return len(i.open)
}

func (i *Invites) expire() {
	now := i.now()
	for k, end := range i.open {
		if now.After(end) {
			delete(i.open, k)
		}
	}
	for k, end := range i.taken {
		if now.After(end) {
			delete(i.taken, k)
		}
	}
}
