package stacked

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// notPosix are cases that do not fit, with the reason.
var notPosix = map[string]string{
	"FcntlFlockLocksFile": "expects a process to be kept out by its own lock, which no Linux file system does",
}

// TestPosix runs go-fuse's own suite through the mount, with a sink attached.
func TestPosix(t *testing.T) {
	c, dir, _ := start(t, Config{})
	r := &recorder{}
	defer c.Attach(r)()
	for name, fn := range posixtest.All {
		t.Run(name, func(t *testing.T) {
			if why := notPosix[name]; why != "" {
				t.Skip(why)
			}
			sub := filepath.Join(dir, name)
			must(t, os.Mkdir(sub, 0o755))
			fn(t, sub)
			r.take(t)
		})
	}
}
