package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"understudy/control"
	"understudy/internal/pamlogin"
	"understudy/node"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dtclsh": main, "pam-helper": func() {
		if err := pamlogin.Helper(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
	}})
}

// TestTranscripts runs the shell against a pair of nodes in this process. A script
// finds: $INDY and $JERSEY, their data directories; $JERSEYADDR, where the target
// listens; $KEY, a key file of the target with admin access; $TREE, a directory with two files.
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
		if err := node.PairUp(indy, jersey); err != nil {
			return err
		}
		for name, data := range map[string]string{"KEY": "jersey", "INDYKEY": "indy"} {
			env.Setenv(name, filepath.Join(base, name))
			if err := makeKey(filepath.Join(base, data), filepath.Join(base, name)); err != nil {
				return err
			}
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

// makeKey lets a script log in.
func makeKey(data, file string) error {
	c, err := control.DialLocal(context.Background(), data)
	if err != nil {
		return err
	}
	defer c.Close()
	var reply control.KeyReply
	if err := c.Call(context.Background(), "key.add", control.KeyRequest{Name: "test", Level: "admin"}, &reply); err != nil {
		return err
	}
	raw, err := json.Marshal(reply.File)
	if err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o600)
}

// startNode runs a node until the script ends.
func startNode(env *testscript.Env, data, name string) *node.Node {
	n, stop := runNode(env.T(), data, name, "127.0.0.1:0")
	env.Defer(stop)
	return n
}

// runNode runs a node until stop is called.
func runNode(t interface{ Fatal(...any) }, data, name, listen string) (n *node.Node, stop func()) {
	cfg := node.DefaultConfig()
	cfg.Name, cfg.Data, cfg.Listen = name, data, listen
	n, err := node.Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	select {
	case <-n.Ready():
	case err := <-done:
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal(name, "does not start")
	}
	return n, func() {
		cancel()
		if err := <-done; err != nil {
			t.Fatal(name, "stopped:", err)
		}
	}
}
