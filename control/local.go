package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Local is what a daemon leaves in its data directory for programs on the same
// machine: who may read the file may administer the node.
type Local struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Secret  string `json:"secret"`
}

// LocalFile is the file's name within the data directory. It has mode 0600.
const LocalFile = "local.json"

// DialLocal connects to the daemon whose data directory is dir.
func DialLocal(ctx context.Context, dir string) (*Client, error) {
	l, err := ReadLocal(dir)
	if err != nil {
		return nil, err
	}
	return Dial(ctx, l.Address, l.Name, l.Secret)
}

// ReadLocal reads what the daemon whose data directory is dir left there.
func ReadLocal(dir string) (Local, error) {
	var l Local
	data, err := os.ReadFile(filepath.Join(dir, LocalFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l, Errorf(Unreachable, "start it with: understudy daemon --data "+dir, "no daemon runs on %s", dir)
	case err != nil:
		return l, Errorf(Denied, "only those who may read the file administer this machine", "%v", err)
	}
	if err := strictUnmarshal(data, &l); err != nil {
		return l, fmt.Errorf("%s: %w", filepath.Join(dir, LocalFile), err)
	}
	return l, nil
}

func strictUnmarshal(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(into)
}
