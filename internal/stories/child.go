package stories

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"testing"

	"understudy/internal/bootid"
	"understudy/internal/exercise"
	"understudy/internal/failpoint"
	"understudy/internal/testnode"
	"understudy/node"
)

// settings make a child a daemon.
type settings struct {
	Node *node.Config
	Arm  string // failpoints
	Boot string // file that stands for the kernel's name of this boot; "": the kernel's
}

// Main is the TestMain of a package of stories. A child of its test program is a load or a
// daemon; one whose settings are those of neither is other, which may be nil.
func Main(m *testing.M, other testnode.Main) {
	exercise.Child()
	testnode.Child(func(ctx context.Context, raw []byte, ready func(string)) error {
		var s settings
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		switch {
		case s.Node != nil:
			return s.run(ctx, ready)
		case other != nil:
			return other(ctx, raw, ready)
		}
		return errors.New("a child with settings of nothing")
	})
	os.Exit(m.Run())
}

func (s *settings) run(ctx context.Context, ready func(string)) error {
	if err := failpoint.Arm(s.Arm); err != nil {
		return err
	}
	if s.Boot != "" {
		bootid.Path = s.Boot
	}
	if failpoint.Armed() { // it may end before it is ready
		ready(s.Node.Listen)
		ready = func(string) {}
	}
	n, err := node.Open(*s.Node, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	go func() {
		<-n.Ready()
		ready(n.Addr())
	}()
	return n.Run(ctx)
}
