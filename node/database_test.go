package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"understudy/internal/testpostgres"
)

// TestPostgresStartsFromTheReplicaAtAnyInstant (G1): the mirror begins while the
// database works; the applier is frozen at random operations; each time the replica is
// copied and started (B1.11, B7.19).
func TestPostgresStartsFromTheReplicaAtAnyInstant(t *testing.T) {
	needRoot(t)
	p := newPair(t, true)
	p.mount()
	pg := testpostgres.New(t, filepath.Join(p.dir, "pg"), filepath.Join(p.base, "sock"))
	pg.Init()
	stopServer := pg.Start()
	defer stopServer()
	stopLoad := pg.Load()
	defer stopLoad()
	p.connect()
	rng := rand.New(rand.NewPCG(1, 2))
	counter := 0
	for i := range scaled(10, 200) {
		waitFor(t, "the mirror's end", func() bool { return p.applier().Position().Usable() })
		at := p.freeze(rng, 3000)
		pos := p.applier().Position()
		copied := filepath.Join(p.base, "copy")
		copyTree(t, p.replica, copied)
		if got := p.applier().Position().Applied; got != pos.Applied {
			t.Fatalf("frozen at %d, but the applier went on to %d", pos.Applied, got)
		}
		p.thaw()
		replica := testpostgres.New(t, filepath.Join(copied, "pg"), filepath.Join(p.base, "sock-copy"))
		n := replica.Check()
		t.Logf("point %d: operation %d, counter %d", i, at, n)
		if n < counter {
			t.Errorf("the counter went back from %d to %d", counter, n)
		}
		counter = n
		if err := os.RemoveAll(copied); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			return
		}
		if i%10 == 9 && i > 0 { // mirrors again under load (B7.1)
			p.remirror()
		}
	}
}

// copyTree copies with everything, as fast as the file system allows.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "--reflink=auto", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v\n%s", err, out)
	}
}

// TestSQLiteIsWholeInTheReplicaAtAnyInstant (G1), in WAL and in rollback-journal mode.
func TestSQLiteIsWholeInTheReplicaAtAnyInstant(t *testing.T) {
	needRoot(t)
	for _, mode := range []string{"wal", "delete"} {
		t.Run(mode, func(t *testing.T) {
			p := protected(t)
			stop := sqliteLoad(t, filepath.Join(p.dir, "app.db"), mode)
			defer stop()
			waitFor(t, "the mirror's end", func() bool { return p.applier().Position().Usable() })
			waitFor(t, "the first rows", func() bool { return p.captured() > 500 })
			rng := rand.New(rand.NewPCG(3, 4))
			rows := 0
			for i := range scaled(10, 250) {
				at := p.freeze(rng, 400)
				copied := filepath.Join(p.base, "copy")
				copyTree(t, p.replica, copied)
				p.thaw()
				n := sqliteCheck(t, filepath.Join(copied, "app.db"))
				t.Logf("point %d: operation %d, %d rows", i, at, n)
				if n < rows {
					t.Errorf("rows went back from %d to %d", rows, n)
				}
				rows = n
				if err := os.RemoveAll(copied); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// sqliteLoad inserts rows one transaction at a time until stopped.
func sqliteLoad(t testing.TB, db, mode string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "sqlite3", db)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = io.Discard
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		fmt.Fprintf(in, "pragma journal_mode=%s;\npragma synchronous=full;\ncreate table counter (n integer primary key, pad blob);\n", mode)
		for i := 1; ctx.Err() == nil; i++ {
			if _, err := fmt.Fprintf(in, "insert into counter values (%d, randomblob(%d));\n", i, i%3000); err != nil {
				return
			}
		}
	}()
	return func() {
		cancel()
		_ = cmd.Wait()
		<-fed
		if stderr.Len() > 0 {
			t.Errorf("sqlite3: %s", stderr.String())
		}
	}
}

// sqliteCheck opens the copy as after a power cut and returns its number of rows.
func sqliteCheck(t testing.TB, db string) int {
	t.Helper()
	if _, err := os.Stat(db); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sqlite3", db, "pragma integrity_check; select count(*), coalesce(max(n), 0) from counter;").CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != 2 || lines[0] != "ok" {
		t.Fatalf("replica is damaged: %v\n%s", err, out)
	}
	n, top, _ := strings.Cut(lines[1], "|")
	if n != top {
		t.Errorf("holes: %s rows up to %s", n, top)
	}
	count, _ := strconv.Atoi(n)
	return count
}

// remirror orders a difference mirror and waits for its end.
func (p *pair) remirror() {
	p.t.Helper()
	p.order("diff")
	waitFor(p.t, "the mirror's end", func() bool { return p.applier().Position().Usable() })
}
