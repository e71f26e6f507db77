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
	data, err := os.ReadFile(filepath.Join(dir, LocalFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, Errorf(Unreachable, "start it with: understudy daemon --data "+dir, "no daemon runs on %s", dir)
	case err != nil:
		return nil, Errorf(Denied, "only those who may read the file administer this machine", "%v", err)
	}
	var l Local
	if err := strictUnmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, LocalFile), err)
	}
	return Dial(ctx, l.Address, l.Name, l.Secret)
}

func strictUnmarshal(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(into)
}
