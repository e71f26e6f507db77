package applier

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// A look at a directory does not bring back from the database what was changed or removed
// since the last checkpoint, neither before the next one nor after it.
func TestWarmKeepsWhatIsNewer(t *testing.T) {
	c, err := openCatalog(filepath.Join(t.TempDir(), "catalog.db"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer c.db.Close()
	checkpoint := func() {
		t.Helper()
		if err := c.commit(c.freeze(meta{})); err != nil {
			t.Fatal(err)
		}
		c.thaw()
	}
	changed, removed := key{0, id(11)}, key{0, id(12)}
	for i, k := range []key{changed, removed} {
		o := &object{key: k, kind: unix.S_IFREG}
		c.put(o)
		c.bind(o, place{rootID, string(rune('a' + i))})
	}
	checkpoint()
	was := c.children(0, rootID)
	if len(was) != 2 {
		t.Fatalf("children %v", was)
	}
	o := *c.get(changed)
	o.ident = id(99)
	c.put(&o)
	c.remove(c.get(removed))
	c.young, c.old = map[key]*object{}, nil // everything else was looked at meanwhile
	look := func(when string) {
		t.Helper()
		c.warm(0, was)
		if got := c.get(changed); got == nil || got.ident != id(99) {
			t.Errorf("%s the changed object is %+v", when, got)
		}
		if got := c.get(removed); got != nil {
			t.Errorf("%s the removed object is %+v", when, got)
		}
		if c.err != nil {
			t.Error(c.err)
		}
	}
	look("before the checkpoint")
	b := c.freeze(meta{})
	look("while it is written")
	if err := c.commit(b); err != nil {
		t.Fatal(err)
	}
	c.thaw()
	look("after it")
	c.young = map[key]*object{}
	if c.warm(0, map[string]fileop.ObjID{"a": id(11)}); c.young[changed] == nil {
		t.Error("nothing is read ahead")
	}
}
