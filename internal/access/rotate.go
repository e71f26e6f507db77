package access

import (
	"fmt"
	"slices"
	"strings"
)

// A rotation changes the key of this machine without a moment in which a peer would
// refuse it: a new key is made and kept (BeginRotation), each peer is told over a
// connection that proves the old one, and notes both (PeerChanges); when all know it,
// this machine shows the new key (FinishRotation). A peer forgets the old key when it
// first meets the new one (Met).

// BeginRotation makes the next key, or returns the one made before.
func (k *Keyring) BeginRotation() (next Fingerprint, err error) {
	err = k.update(func(d *keyringData) error {
		if d.Next == nil {
			if d.Next, err = newIdentity(k.name); err != nil {
				return err
			}
			for i := range d.Peers {
				d.Peers[i].Told = false
			}
		}
		next = d.Next.key
		return nil
	})
	return next, err
}

// Rotating is the next key; zero if there is none. Waiting lists the peers that do not
// know it.
func (k *Keyring) Rotating() (next Fingerprint, waiting []Peer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.data.Next == nil {
		return Fingerprint{}, nil
	}
	for _, p := range k.data.Peers {
		if !p.Told {
			waiting = append(waiting, p)
		}
	}
	return k.data.Next.key, waiting
}

// PeerTold notes that a peer knows the next key.
func (k *Keyring) PeerTold(name string, next Fingerprint) error {
	return k.update(func(d *keyringData) error {
		p := d.peer(name)
		if p == nil || d.Next == nil || d.Next.key != next {
			return fmt.Errorf("peer %s: %w", name, ErrUnknown)
		}
		p.Told = true
		return nil
	})
}

// FinishRotation shows the next key from now on, if all peers know it or force is set;
// peers that do not know it have to be paired again.
func (k *Keyring) FinishRotation(force bool) (done bool, err error) {
	err = k.update(func(d *keyringData) error {
		if d.Next == nil || !force && slices.ContainsFunc(d.Peers, func(p Peer) bool { return !p.Told }) {
			return nil
		}
		d.Current, d.Next, done = d.Next, nil, true
		for i := range d.Peers {
			d.Peers[i].Told = false
		}
		return nil
	})
	return done, err
}

// PeerChanges notes the next key of a peer, which proved the key used.
func (k *Keyring) PeerChanges(name string, used, next Fingerprint) error {
	return k.update(func(d *keyringData) error {
		p := d.peer(name)
		switch {
		case p == nil || !slices.Contains(p.Keys, used):
			return fmt.Errorf("peer %s: %w", name, ErrNotPaired)
		case slices.Contains(p.Keys, next):
			return nil
		case next.IsZero() || d.owner(next) != "" || next == d.Current.key:
			return fmt.Errorf("peer %s: next key: %w", name, ErrExists)
		}
		p.Keys = []Fingerprint{used, next}
		return nil
	})
}

// met forgets what came before a key that a peer has just shown.
func (k *Keyring) met(name string, key Fingerprint) error {
	if !k.older(name, key) {
		return nil
	}
	return k.update(func(d *keyringData) error {
		if p := d.peer(name); p != nil {
			if i := slices.Index(p.Keys, key); i > 0 {
				p.Keys = p.Keys[i:]
			}
		}
		return nil
	})
}

// older reports whether a peer has keys older than this one.
func (k *Keyring) older(name string, key Fingerprint) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.data.peer(name)
	return p != nil && slices.Index(p.Keys, key) > 0
}

// Meet is MachineOf for one who stands at the door: a peer that shows its new key has no
// older one from now on.
func (k *Keyring) Meet(key Fingerprint) (name string, ok bool) {
	name, ok = k.MachineOf(key)
	if ok && !strings.EqualFold(name, k.name) {
		if err := k.met(name, key); err != nil {
			return "", false // a keyring that cannot be written admits nobody new
		}
	}
	return name, ok
}
