package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nkeys"
)

// KeyFile is what a script logs in with: the seed of its key, and who the server is.
type KeyFile struct {
	Version int           `json:"version"`
	Name    string        `json:"name"`
	Node    string        `json:"node"`
	Address string        `json:"address"` // host:port, where the node listened when the key was made
	Level   string        `json:"level"`
	Seed    string        `json:"seed"`   // nkey user seed
	Server  []Fingerprint `json:"server"` // keys of the node
}

const keyFileVersion = 1

var keyName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// AddScript makes a key for a script; the private half is only in the file returned.
func (k *Keyring) AddScript(name string, level Level, address string) (KeyFile, error) {
	if !keyName.MatchString(name) {
		return KeyFile{}, fmt.Errorf("key %.80q: letters, digits, dot, - and _, at most 63", name)
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		return KeyFile{}, fmt.Errorf("make key: %w", err)
	}
	defer pair.Wipe()
	seed, err1 := pair.Seed()
	public, err2 := pair.PublicKey()
	if err := errors.Join(err1, err2); err != nil {
		return KeyFile{}, fmt.Errorf("make key: %w", err)
	}
	f := KeyFile{Version: keyFileVersion, Name: name, Node: k.name, Address: address, Level: level.String(), Seed: string(seed)}
	err = k.update(func(d *keyringData) error {
		if slices.ContainsFunc(d.Scripts, func(s ScriptKey) bool { return s.Name == name }) {
			return fmt.Errorf("key %s: %w", name, ErrExists)
		}
		if len(d.Scripts) >= maxScripts {
			return fmt.Errorf("key %s: %w: %d keys", name, ErrFull, maxScripts)
		}
		f.Server = []Fingerprint{d.Current.key}
		if d.Next != nil {
			f.Server = append(f.Server, d.Next.key)
		}
		d.Scripts = append(d.Scripts, ScriptKey{Name: name, NKey: public, Level: level.String(), Made: time.Now().UTC()})
		slices.SortFunc(d.Scripts, func(a, b ScriptKey) int { return strings.Compare(a.Name, b.Name) })
		return nil
	})
	return f, err
}

// RemoveScript forgets a key. The caller drops its sessions.
func (k *Keyring) RemoveScript(name string) error {
	return k.update(func(d *keyringData) error {
		n := len(d.Scripts)
		d.Scripts = slices.DeleteFunc(d.Scripts, func(s ScriptKey) bool { return s.Name == name })
		if len(d.Scripts) == n {
			return fmt.Errorf("key %s: %w", name, ErrUnknown)
		}
		return nil
	})
}

// Scripts lists the keys by name.
func (k *Keyring) Scripts() []ScriptKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.data.Scripts)
}

// ScriptOf finds a key by its public half.
func (k *Keyring) ScriptOf(nkey string) (ScriptKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.data.Scripts {
		if s.NKey == nkey {
			return s, true
		}
	}
	return ScriptKey{}, false
}

// ReadKeyFile reads what "understudy key add" printed.
func ReadKeyFile(path string) (KeyFile, error) {
	var f KeyFile
	raw, err := os.ReadFile(path)
	if err != nil {
		return f, fmt.Errorf("key file: %w", err)
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return f, fmt.Errorf("key file %s: %w", path, err)
	}
	if f.Version != keyFileVersion || len(f.Server) == 0 {
		return f, fmt.Errorf("key file %s: not made by: understudy key add", path)
	}
	return f, nil
}

// Signer signs what a server asks for.
func (f KeyFile) Signer() (public string, sign func([]byte) ([]byte, error), err error) {
	pair, err := nkeys.FromSeed([]byte(f.Seed))
	if err == nil {
		public, err = pair.PublicKey()
	}
	if err != nil {
		return "", nil, fmt.Errorf("key file: %w", err)
	}
	return public, pair.Sign, nil
}

// Signed reports whether the private half of a public key signed the text.
func Signed(public string, text, signature []byte) bool {
	if !nkeys.IsValidPublicUserKey(public) {
		return false
	}
	pair, err := nkeys.FromPublicKey(public)
	return err == nil && pair.Verify(text, signature) == nil
}
