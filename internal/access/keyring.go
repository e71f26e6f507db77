package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"understudy/internal/atomicfile"
)

// keyringFile is the keyring within the data directory, mode 0600.
const (
	keyringFile    = "keyring.json"
	keyringVersion = 1
)

// Bounds of a keyring.
const (
	maxPeers    = 1000
	maxScripts  = 1000
	maxPeerKeys = 2 // the one in use and the one it changes to
)

// Errors of the keyring.
var (
	ErrNotPaired = errors.New("not paired")
	ErrNameTaken = errors.New("a machine of this name is paired with another key")
	ErrUnknown   = errors.New("not known")
	ErrExists    = errors.New("exists")
	ErrFull      = errors.New("no room for more")
)

// Peer is a machine this one is paired with.
type Peer struct {
	Name    string        `json:"name"`
	Address string        `json:"address,omitempty"` // host:port where it listens; "": not known
	Keys    []Fingerprint `json:"keys"`              // oldest first; two while the peer changes its key
	Paired  time.Time     `json:"paired"`
	Told    bool          `json:"told,omitempty"` // it knows our next key
}

// ScriptKey lets a script log in.
type ScriptKey struct {
	Name  string    `json:"name"`
	NKey  string    `json:"nkey"` // public
	Level string    `json:"level"`
	Made  time.Time `json:"made"`
}

type keyringData struct {
	Version int         `json:"version"`
	Current *identity   `json:"current"`
	Next    *identity   `json:"next,omitempty"` // during a rotation
	Peers   []Peer      `json:"peers"`          // by name
	Scripts []ScriptKey `json:"scripts"`        // by name
}

// Keyring is what a machine knows of itself and of those it trusts, in one file that is
// replaced whole at each change. Safe for use by several goroutines of one process.
type Keyring struct {
	path, name string

	mu   sync.Mutex // guards what follows
	data keyringData
	live map[*peerConn]string // connections to peers, by peer; see Secure
}

// Open reads the keyring of a data directory, or makes a new identity named name.
func Open(dir, name string) (*Keyring, error) {
	k := &Keyring{path: filepath.Join(dir, keyringFile), name: name, live: map[*peerConn]string{}}
	err := k.read()
	if errors.Is(err, fs.ErrNotExist) {
		if err = k.create(); err == nil {
			err = k.read() // another process may have been first
		}
	}
	if err != nil {
		return nil, fmt.Errorf("machine keys: %w", err)
	}
	return k, nil
}

// create writes a keyring with a new identity, unless there is one.
func (k *Keyring) create() error {
	if err := os.MkdirAll(filepath.Dir(k.path), 0o700); err != nil {
		return err
	}
	id, err := newIdentity(k.name)
	if err != nil {
		return err
	}
	raw, err := json.MarshalIndent(keyringData{Version: keyringVersion, Current: id}, "", "  ")
	if err != nil {
		return err
	}
	fresh := fmt.Sprintf("%s.first-%d", k.path, os.Getpid())
	if err := atomicfile.Write(fresh, append(raw, '\n'), 0o600); err != nil {
		return err
	}
	defer os.Remove(fresh)
	if err := os.Link(fresh, k.path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(k.path))
}

func (k *Keyring) read() error {
	raw, err := os.ReadFile(k.path)
	if err != nil {
		return err
	}
	d, err := parseKeyring(raw)
	if err != nil {
		return fmt.Errorf("%s: %w; put back a copy, or move the file away and pair again", k.path, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.data = d
	return nil
}

func parseKeyring(raw []byte) (keyringData, error) {
	var d keyringData
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, fmt.Errorf("damaged: %w", err)
	}
	if d.Version != keyringVersion {
		return d, fmt.Errorf("version %d, this program writes version %d", d.Version, keyringVersion)
	}
	if d.Current == nil {
		return d, errors.New("damaged: no machine key")
	}
	for _, id := range []*identity{d.Current, d.Next} {
		if id == nil {
			continue
		}
		if err := id.load(); err != nil {
			return d, fmt.Errorf("damaged: %w", err)
		}
	}
	for _, p := range d.Peers {
		if len(p.Keys) == 0 || len(p.Keys) > maxPeerKeys || slices.ContainsFunc(p.Keys, Fingerprint.IsZero) {
			return d, fmt.Errorf("damaged: %d keys of peer %q", len(p.Keys), p.Name)
		}
	}
	return d, nil
}

// update changes the keyring and makes the change durable before it counts.
func (k *Keyring) update(change func(*keyringData) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := k.data
	next.Peers, next.Scripts = slices.Clone(k.data.Peers), slices.Clone(k.data.Scripts)
	for i := range next.Peers {
		next.Peers[i].Keys = slices.Clone(next.Peers[i].Keys)
	}
	if err := change(&next); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(&next, "", "  ")
	if err != nil {
		return fmt.Errorf("machine keys: %w", err)
	}
	if err := atomicfile.Write(k.path, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("machine keys: %w", err)
	}
	k.data = next
	return nil
}

// Name of this machine.
func (k *Keyring) Name() string { return k.name }

// Key is the one this machine shows now.
func (k *Keyring) Key() Fingerprint {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.data.Current.key
}

func (d *keyringData) peer(name string) *Peer {
	for i := range d.Peers {
		if strings.EqualFold(d.Peers[i].Name, name) {
			return &d.Peers[i]
		}
	}
	return nil
}

// Peers lists the paired machines by name.
func (k *Keyring) Peers() []Peer {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := slices.Clone(k.data.Peers)
	for i := range out {
		out[i].Keys = slices.Clone(out[i].Keys)
	}
	return out
}

// AddPeer pairs with a machine. Known with the same key, its address is renewed; with
// another key it is ErrNameTaken: that peer is to be removed first, by somebody who
// knows why the key is another.
func (k *Keyring) AddPeer(name, address string, key Fingerprint) error {
	if strings.EqualFold(name, k.name) {
		return fmt.Errorf("pair with %s: %w: that is the name of this machine", name, ErrNameTaken)
	}
	return k.update(func(d *keyringData) error {
		if p := d.peer(name); p != nil {
			if !slices.Contains(p.Keys, key) {
				return fmt.Errorf("pair with %s: %w", p.Name, ErrNameTaken)
			}
			p.Address = address
			return nil
		}
		if owner := d.owner(key); owner != "" || key == d.Current.key {
			return fmt.Errorf("pair with %s: %w: its key is that of %s; machines copied with their data directory need `keyring.json` removed from the copy",
				name, ErrExists, cmpOr(owner, k.name))
		}
		if len(d.Peers) >= maxPeers {
			return fmt.Errorf("pair with %s: %w: %d machines", name, ErrFull, maxPeers)
		}
		d.Peers = append(d.Peers, Peer{Name: name, Address: address, Keys: []Fingerprint{key}, Paired: time.Now().UTC()})
		slices.SortFunc(d.Peers, func(a, b Peer) int { return strings.Compare(a.Name, b.Name) })
		return nil
	})
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// owner is the peer with this key, "" if there is none.
func (d *keyringData) owner(key Fingerprint) string {
	for _, p := range d.Peers {
		if slices.Contains(p.Keys, key) {
			return p.Name
		}
	}
	return ""
}

// RemovePeer forgets a machine and cuts the connections to it. The caller drops those
// it made to this machine.
func (k *Keyring) RemovePeer(name string) error {
	err := k.update(func(d *keyringData) error {
		n := len(d.Peers)
		d.Peers = slices.DeleteFunc(d.Peers, func(p Peer) bool { return strings.EqualFold(p.Name, name) })
		if len(d.Peers) == n {
			return fmt.Errorf("peer %s: %w", name, ErrUnknown)
		}
		return nil
	})
	if err == nil {
		k.cut(name)
	}
	return err
}

// MachineOf is the name of the machine that holds a key: a peer, or this one.
func (k *Keyring) MachineOf(key Fingerprint) (name string, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key == k.data.Current.key || k.data.Next != nil && key == k.data.Next.key {
		return k.name, true
	}
	name = k.data.owner(key)
	return name, name != ""
}
