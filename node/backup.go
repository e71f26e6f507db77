package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"understudy/control"
	"understudy/internal/atomicfile"
	"understudy/internal/failpoint"
	"understudy/repset"
	"understudy/stream"
)

// A target keeps a copy of the replication sets whose data it holds (B5.58), so that a
// source that lost its own can be restored (B5.59). The copies outlive their connections.

// backupVersion is raised when an older machine would misunderstand a copy.
const backupVersion = 1

// maxBackups bounds the copies kept of one source.
const maxBackups = maxSets

// setBackup is a copy, on the way and as a file.
type setBackup struct {
	Version  int        `json:"version"`
	Source   string     `json:"source"`
	Set      repset.Set `json:"set"`
	Received time.Time  `json:"received"` // by the target
}

func backupSubject(source, conn string) string {
	return "rq.backup." + stream.Token(source) + "." + stream.Token(conn)
}

// definition is the set of a connection as it is stored, or else the connection's own
// rules.
func (c *Connection) definition() (repset.Set, error) {
	if set, err := c.n.storedSet(c.cfg.Set); err == nil {
		return set, nil
	}
	set := repset.Set{Name: c.cfg.Set}
	cfg := c.config()
	compiled, err := cfg.rules()
	if err == nil {
		set.Rules = compiled.Rules()
	}
	return set, err
}

// keepBackup tells the target the set's definition, at the beginning and whenever it was
// saved, until ctx ends.
func (s *session) keepBackup(ctx context.Context) error {
	s.joined(ctx)
	said := false
	if s.c.cfg.Restore != nil {
		return nil // the set is the other machine's own
	}
	for ctx.Err() == nil {
		saved := s.c.setSaved()
		err := s.sendBackup(ctx)
		if err != nil && !said && ctx.Err() == nil {
			s.c.log.Warn("target keeps no copy of the replication set yet", "err", err)
			said = true
		}
		var again <-chan struct{} // nil: only when it is saved
		if err != nil {
			again = closeAfter(ctx, max(s.c.n.conf().NetworkRetry, time.Second))
		}
		select {
		case <-ctx.Done():
		case <-saved:
		case <-again:
		}
	}
	return nil
}

func (s *session) sendBackup(ctx context.Context) error {
	set, err := s.c.definition()
	if err != nil {
		return err
	}
	_, err = s.link.Request(ctx, backupSubject(s.c.n.cfg.Name, s.c.key), encodeJSON(setBackup{Version: backupVersion, Source: s.c.n.cfg.Name, Set: set}))
	return err
}

// setComesHome stores a set that a restoration brought back, over one of its name. A machine
// that may write its files may do that.
func (n *Node) setComesHome(ctx context.Context, set repset.Set) error {
	set.Generation = 0
	if have, err := n.storedSet(set.Name); err == nil {
		if slices.EqualFunc(have.Rules, set.Rules, func(a, b repset.Rule) bool { return a.String() == b.String() }) {
			return nil // it is here, or the answer was lost
		}
		set.Generation = have.Generation
	}
	_, err := n.saveSet(ctx, set)
	failpoint.Hit(failpoint.RestoreSetHome)
	return err
}

// serveBackup takes the copies of a replica's source; of a restoration, the set that comes
// home.
func (r *replica) serveBackup() (stop func(), err error) {
	return r.n.srv.Handle(backupSubject(r.info.Source, r.info.Connection), func(ctx context.Context, data []byte) ([]byte, error) {
		b, err := decodeReply[setBackup](data, "copy of a replication set")
		name := r.info.Set
		if r.info.Restore {
			name = strings.TrimPrefix(name, restorePrefix)
		}
		if err == nil && (b.Version != backupVersion || b.Source != r.info.Source || !strings.EqualFold(b.Set.Name, name)) {
			err = fmt.Errorf("copy of set %.100q of %.100q, version %d, is not that of this connection", b.Set.Name, b.Source, b.Version)
		}
		if err == nil {
			err = b.Set.Check()
		}
		if err == nil && r.info.Restore {
			return nil, r.n.setComesHome(ctx, b.Set)
		}
		if err == nil {
			b.Received = time.Now().UTC()
			err = r.n.storeBackup(&b)
		}
		return nil, err
	})
}

// backupFile is where the copy of a set is kept. No byte of a name becomes a path as it
// is.
func (c *Config) backupFile(source, set string) string {
	return filepath.Join(c.backupDir(), stream.Token(source), stream.Token(strings.ToLower(set))+".json")
}

func (n *Node) storeBackup(b *setBackup) error {
	path := n.conf().backupFile(b.Source, b.Set.Name)
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep copy of set %s: %w", b.Set.Name, err)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		names, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("keep copy of set %s: %w", b.Set.Name, err)
		}
		if len(names) >= maxBackups {
			return fmt.Errorf("keep copy of set %s: %d sets of %s are kept already", b.Set.Name, len(names), b.Source)
		}
	}
	raw, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return fmt.Errorf("keep copy of set %s: %w", b.Set.Name, err)
	}
	return atomicfile.Write(path, append(raw, '\n'), 0o600)
}

// backup is the copy of a set that is kept here.
func (n *Node) backup(source, set string) (b setBackup, err error) {
	raw, err := os.ReadFile(n.conf().backupFile(source, set))
	if err == nil {
		err = decodeJSON(raw, &b, "copy of a replication set")
	}
	if err != nil {
		err = control.Errorf(control.NotFound, "restore with the source's own set: USESOURCEDB", "copy of set %s of %s: %v", set, source, err)
	}
	return b, err
}

// backups lists the copies kept here, by source and set; with a name those of one source.
// A copy that cannot be read is left out, and logged.
func (n *Node) backups(_ context.Context, r control.NameRequest) (any, error) {
	files, err := filepath.Glob(filepath.Join(n.conf().backupDir(), "*", "*.json"))
	if err != nil {
		return nil, err
	}
	out := control.BackupList{Backups: []control.Backup{}}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		var b setBackup
		if err == nil {
			err = decodeJSON(raw, &b, "copy of a replication set")
		}
		if err == nil && (b.Version != backupVersion || b.Set.Check() != nil) {
			err = fmt.Errorf("version %d, or not a replication set", b.Version)
		}
		if err != nil {
			n.log.Warn("copy of a replication set left out", "path", file, "err", err)
			continue
		}
		if r.Name == "" || strings.EqualFold(r.Name, b.Source) {
			out.Backups = append(out.Backups, control.Backup{Source: b.Source, Set: b.Set, Received: b.Received})
		}
	}
	sort.Slice(out.Backups, func(i, j int) bool {
		a, b := &out.Backups[i], &out.Backups[j]
		if a.Source != b.Source {
			return a.Source < b.Source
		}
		return a.Set.Name < b.Set.Name
	})
	return out, nil
}
