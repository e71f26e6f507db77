package applier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"

	"understudy/internal/digest"
)

// The database's file may be damaged while it is open. Each entry carries a checksum of
// its key and value, and what the database makes of damaged pages (a panic, or a fault
// where the file became shorter under its mapping) is an error here.

// closed puts the checksum behind a value.
func closed(k, v []byte) []byte {
	return binary.BigEndian.AppendUint32(v, uint32(digest.Entry(k, v)))
}

// opened takes it off; nil stays nil.
func opened(k, v []byte) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	n := len(v) - 4
	if n < 0 || binary.BigEndian.Uint32(v[n:]) != uint32(digest.Entry(k, v[:n])) {
		return nil, fmt.Errorf("%w: entry with a wrong checksum", errCatalog)
	}
	return v[:n], nil
}

func (c *catalog) view(f func(*bbolt.Tx) error) error {
	last := c.lastTx.Load()
	return guarded(func() error {
		return c.db.View(func(tx *bbolt.Tx) error {
			if int64(tx.ID()) < last {
				return fmt.Errorf("%w: its file was replaced by an older copy", errCatalog)
			}
			return f(tx)
		})
	})
}

func (c *catalog) update(f func(*bbolt.Tx) error) error {
	last, now := c.lastTx.Load(), int64(0)
	err := guarded(func() error {
		return c.db.Update(func(tx *bbolt.Tx) error {
			if now = int64(tx.ID()); now <= last {
				return fmt.Errorf("%w: its file was replaced by an older copy", errCatalog)
			}
			return f(tx)
		})
	})
	if err == nil {
		c.lastTx.Store(now)
	}
	return err
}

// verifyEvery is how often the file is compared as a whole while it is in use: a damage
// that leads lookups astray shows in no entry.
var verifyEvery = time.Hour

// verifyDue compares the file if it is time. It is called between commits.
func (c *catalog) verifyDue() error {
	if time.Since(c.verified) < verifyEvery {
		return nil
	}
	c.verified = time.Now()
	return verifyCatalog(c.db.Path())
}

// guarded makes a panic or a fault of the database errCatalog.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errCatalog, p)
		}
	}()
	return f()
}

// openState opens catalog and high mark. A catalog that is damaged or lost is set aside
// and begun anew: the next mirror of a new epoch finds the objects again (Rebuilt). An
// older copy is used as after a power cut, and so is a catalog whose high mark is not
// sound, unless its last stop was clean.
func (a *Applier) openState() (err error) {
	path := filepath.Join(a.cfg.StateDir, "catalog.db")
	a.cat, err = openCatalog(path, a.cfg.NoSync)
	if errors.Is(err, errCatalog) {
		a.log.Error("catalog is damaged, beginning an empty one", "err", err)
		if err = os.Rename(path, path+".damaged"); err == nil {
			a.cat, err = openCatalog(path, a.cfg.NoSync)
		}
		a.rebuilt = true
	}
	if err != nil {
		return err
	}
	var known bool
	if a.high, known, err = openHighMark(filepath.Join(a.cfg.StateDir, "applying")); err != nil {
		return err
	}
	m, ok, err := a.cat.loadMeta()
	if err != nil {
		return err
	}
	switch {
	case !ok && a.cfg.HeldSince != 0 && !a.rebuilt:
		a.log.Error("catalog is gone, beginning an empty one")
		a.rebuilt = true
	case ok && known && m.Commits < a.high.commits():
		a.log.Error("catalog is an older copy, comparing all names", "commits", m.Commits, "last", a.high.commits())
		a.doubtful = true
	case ok && !known && !m.Clean:
		a.log.Warn("mark of the operation under way is damaged, comparing all names")
		a.doubtful = true
	}
	if known {
		a.cat.count = max(a.cat.count, a.high.commits())
	} else {
		a.high.reset()
	}
	a.cat.noted = a.high.setCommits
	if a.rebuilt {
		return a.beginAnew()
	}
	return nil
}

// beginAnew notes in the empty catalog that everything made on the target since it
// became ours may be its own, until a mirror has compared it.
func (a *Applier) beginAnew() error {
	a.doubtful = true
	m := meta{BootID: a.boot, At: a.cfg.HeldSince}
	m.Ghosts.open(m.At)
	if err := a.cat.storeMeta(m); err != nil {
		return fmt.Errorf("begin a new catalog: %w", err)
	}
	return nil
}

// Rebuilt reports that the catalog was lost and began empty at Open. Nothing of the
// present epoch can be applied: it needs a new one, and a mirror.
func (a *Applier) Rebuilt() bool { return a.rebuilt }
