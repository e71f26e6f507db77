package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"understudy/internal/access"
)

// Local is what a daemon leaves in its data directory for programs on the same
// machine: who may read the file may administer the node, or look at it.
type Local struct {
	Name    string               `json:"name"`
	Address string               `json:"address"`
	Token   string               `json:"token"` // another one after each start
	Level   string               `json:"level"`
	Keys    []access.Fingerprint `json:"keys"` // of the node
}

// The files' names within the data directory. They can be read by root alone, and by
// the groups of those who may administer and look, where the groups exist.
const (
	LocalFile        = "local.json"
	LocalMonitorFile = "local-monitor.json"
)

// Login of the local programs.
func (l *Local) Login() Login { return Login{Token: l.Token, Accept: AcceptKeys(l.Keys...)} }

// DialLocal connects to the daemon whose data directory is dir.
func DialLocal(ctx context.Context, dir string) (*Client, error) {
	l, err := ReadLocal(dir)
	if err != nil {
		return nil, err
	}
	c, err := Dial(ctx, l.Address, l.Name, l.Login())
	var e *Error
	if errors.As(err, &e) && e.Code == Denied {
		return nil, Errorf(Unreachable, "start it with: understudy daemon --data "+dir, "no daemon runs on %s; another one is at its address: %v", dir, err)
	}
	return c, err
}

// ReadLocal reads what the daemon whose data directory is dir left there.
func ReadLocal(dir string) (Local, error) {
	var l Local
	name := filepath.Join(dir, LocalFile)
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrPermission) {
		name = filepath.Join(dir, LocalMonitorFile)
		data, err = os.ReadFile(name)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l, Errorf(Unreachable, "start it with: understudy daemon --data "+dir, "no daemon runs on %s", dir)
	case err != nil:
		return l, Errorf(Denied, "be root, or a member of the group dtadmin or dtmon of this machine", "%v", err)
	}
	if err := strictUnmarshal(data, &l); err != nil {
		return l, fmt.Errorf("%s: %w", name, err)
	}
	return l, nil
}

func strictUnmarshal(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more follows the first value")
	}
	return nil
}
