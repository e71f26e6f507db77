package node

import (
	"context"
	"errors"
	"testing"
	"time"

	"understudy/control"
	"understudy/repset"
)

// wantCode fails unless err is a control error of code.
func wantCode(t *testing.T, err error, code control.Code) {
	t.Helper()
	var ce *control.Error
	if !errors.As(err, &ce) || ce.Code != code {
		t.Fatalf("error %v, want code %s", err, code)
	}
}

// TestStoredSets follows a set from creation to deletion: B5.42 to B5.51.
func TestStoredSets(t *testing.T) {
	p := newPair(t, false)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := control.DialLocal(ctx, p.source.cfg.Data)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	set := repset.Set{Name: "Tree"}
	wantCode(t, c.Call(ctx, "repset.get", control.NameRequest{Name: "tree"}, nil), control.NotFound)
	wantCode(t, c.Call(ctx, "repset.save", set, nil), control.BadRequest) // nothing included
	set.Rules = []repset.Rule{{Path: p.dir, Recursive: true}}
	var saved control.Repset
	if err := c.Call(ctx, "repset.save", set, &saved); err != nil {
		t.Fatal(err)
	}
	if saved.Generation != 1 || saved.Name != "Tree" || saved.Connected {
		t.Fatalf("saved %+v", saved)
	}
	wantCode(t, c.Call(ctx, "repset.save", set, nil), control.Refused) // B5.50: began before the first save
	saved.Name = "TREE"                                                // compared without case
	if err := c.Call(ctx, "repset.save", saved.Set, &saved); err != nil || saved.Generation != 2 || saved.Name != "Tree" {
		t.Fatalf("second save: %+v, %v", saved, err)
	}

	connect := control.ConnectRequest{Set: "tree", Target: p.target.Addr(), Map: map[string]string{p.dir: p.replica}}
	var reply control.ConnectReply
	if err := c.Call(ctx, "connect", connect, &reply); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c.Call(ctx, "repset.delete", control.NameRequest{Name: "tree"}, nil), control.Refused) // B5.49
	var machines control.MachineList
	if err := c.Call(ctx, "machine.list", nothing{}, &machines); err != nil {
		t.Fatal(err)
	}
	if len(machines.Machines) != 2 || machines.Machines[1].Name != "jersey" || machines.Machines[1].Address != p.target.Addr() || !machines.Machines[1].Paired {
		t.Fatalf("machines %+v", machines)
	}
	connect.Target = "JERSEY" // known by now
	wantCode(t, c.Call(ctx, "connect", connect, nil), control.Exists)
	if err := c.Call(ctx, "disconnect", control.IDRequest{ID: reply.ID}, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Call(ctx, "repset.delete", control.NameRequest{Name: "tree"}, nil); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c.Call(ctx, "connect", connect, nil), control.NotFound)
	connect.Target, connect.Rules = "nowhere.invalid", []string{p.dir}
	wantCode(t, c.Call(ctx, "connect", connect, nil), control.Unreachable)
	wantCode(t, c.Call(ctx, "machine.remove", control.NameRequest{Name: "nowhere"}, nil), control.NotFound)
}
