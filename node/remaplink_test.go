package node

import (
	"os"
	"path/filepath"
	"testing"

	"understudy/control"
	"understudy/repset"
)

func TestRemapped(t *testing.T) {
	rules, err := repset.Compile([]repset.Rule{{Path: "/srv/pay", Recursive: true}, {Path: "/srv/pay/tmp", Exclude: true, Recursive: true}, {Path: "/srv/pay/deep/er", Recursive: true}})
	must(t, err)
	pairs := []repset.Pair{{From: "/srv/pay", To: "/standby/p"}, {From: "/srv/pay/deep/er", To: "/other"}}
	for target, want := range map[string]string{
		"/srv/pay": "/standby/p", "/srv/pay/": "/standby/p/", "/srv/pay/a/b": "/standby/p/a/b", "/srv/pay/a/": "/standby/p/a/",
		"/srv/pay/deep/er/x": "/other/x", "/srv/payroll/a": "/srv/payroll/a", "/srv": "/srv", "/": "/", "": "",
		"srv/pay/a": "srv/pay/a", "../pay/a": "../pay/a", "/srv/pay/../etc": "/srv/pay/../etc", "/srv/pay//a": "/srv/pay//a",
		"/srv/pay/./a": "/srv/pay/./a", "/srv/pay/tmp": "/srv/pay/tmp", "/srv/pay/tmp/x": "/srv/pay/tmp/x", "//srv/pay": "//srv/pay",
	} {
		if got := remapped(pairs, rules, target); got != want {
			t.Errorf("%q: %q, want %q", target, got, want)
		}
	}
}

// TestLinksAreRemapped (G60): in the mirror, live, renamed, and back again by a
// restoration; links that lead out of the set stay. With RemapLink 0 all of them stay.
func TestLinksAreRemapped(t *testing.T) {
	needRoot(t)
	p := newPair(t, true)
	at := func(name string) string { return filepath.Join(p.dir, name) }
	link := func(name, target string) {
		t.Helper()
		must(t, os.Symlink(target, at(name)))
	}
	want := func(dir, name, target string) {
		t.Helper()
		if got, err := os.Readlink(filepath.Join(dir, name)); err != nil || got != target {
			t.Errorf("%s leads to %q, want %q (%v)", name, got, target, err)
		}
	}
	must(t, os.Mkdir(at("d"), 0o755))
	must(t, os.WriteFile(at("d/file"), []byte("x"), 0o644))
	link("in", at("d/file"))
	link("out", "/etc/hostname")
	link("rel", "d/file")
	p.mount()
	p.connect()
	p.settle()
	link("live", at("d"))
	link("moved", p.dir+"/")
	must(t, os.Rename(at("moved"), at("d/moved")))
	p.settle()
	for name, target := range map[string]string{"in": p.replica + "/d/file", "out": "/etc/hostname", "rel": "d/file", "live": p.replica + "/d", "d/moved": p.replica + "/"} {
		want(p.replica, name, target)
	}
	if rep := p.verified(control.VerifyRequest{Checksum: true}); !rep.Equal {
		t.Fatalf("remapped links are differences: %+v", rep)
	}
	p.backedUp()
	must(t, p.source.Disconnect(t.Context(), p.id))
	must(t, p.source.Umount(t.Context(), p.dir))
	empty(t, p.dir)
	if rep := p.restored(control.RestoreRequest{}); rep.State != "done" {
		t.Fatalf("%+v", rep)
	}
	for name, target := range map[string]string{"in": at("d/file"), "out": "/etc/hostname", "rel": "d/file", "live": at("d"), "d/moved": p.dir + "/"} {
		want(p.dir, name, target)
	}
	p.set("RemapLink", "0")
	r, err := p.source.Connect(t.Context(), control.ConnectRequest{Set: "tree", Rules: []string{p.dir + " inc, rec"}, Target: "jersey", Address: p.target.Addr(),
		Map: map[string]string{p.dir: p.replica}, Adopt: true})
	must(t, err)
	p.id = r
	p.settle()
	want(p.replica, "in", at("d/file"))
	want(p.replica, "out", "/etc/hostname")
}
