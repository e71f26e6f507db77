package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"understudy/node"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dtclsh": main})
}

// TestTranscripts runs the shell against a pair of nodes in this process. A script
// finds: $INDY and $JERSEY, their data directories; $JERSEYADDR, where the target
// listens; $SECRET, a file; $TREE, a directory with two files.
func TestTranscripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", RequireExplicitExec: true, UpdateScripts: os.Getenv("UPDATE") != "", Setup: func(env *testscript.Env) error {
		base := env.WorkDir
		jersey := startNode(env, filepath.Join(base, "jersey"), "jersey")
		indy := startNode(env, filepath.Join(base, "indy"), "indy")
		env.Setenv("INDY", filepath.Join(base, "indy"))
		env.Setenv("JERSEY", filepath.Join(base, "jersey"))
		env.Setenv("INDYADDR", indy.Addr())
		env.Setenv("JERSEYADDR", jersey.Addr())
		env.Setenv("TREE", filepath.Join(base, "tree"))
		env.Setenv("REPLICA", filepath.Join(base, "replica"))
		env.Setenv("SECRET", filepath.Join(base, "secret"))
		if err := os.WriteFile(filepath.Join(base, "secret"), []byte(secret+"\n"), 0o600); err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(base, "tree"), 0o755); err != nil {
			return err
		}
		for _, name := range []string{"one", "two"} {
			if err := os.WriteFile(filepath.Join(base, "tree", name), []byte(name+"\n"), 0o644); err != nil {
				return err
			}
		}
		return nil
	}})
}

const secret = "a secret of this test"

// startNode runs a node until the script ends.
func startNode(env *testscript.Env, data, name string) *node.Node {
	cfg := node.DefaultConfig()
	cfg.Name, cfg.Data, cfg.Listen, cfg.Secret = name, data, "127.0.0.1:0", secret
	n, err := node.Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		env.T().Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	select {
	case <-n.Ready():
	case err := <-done:
		env.T().Fatal(err)
	case <-time.After(time.Minute):
		env.T().Fatal(name, "does not start")
	}
	env.Defer(func() {
		cancel()
		if err := <-done; err != nil {
			env.T().Log(name, "stopped:", err)
		}
	})
	return n
}
