package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const pgBin = "/usr/lib/postgresql/15/bin/"

// postgres is one cluster, run as the system user postgres.
type postgres struct {
	t    testing.TB
	data string
	sock string
	cred *syscall.Credential
}

func newPostgres(t testing.TB, data, sock string) *postgres {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatalf("system user postgres: %v (install postgresql-15)", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	pg := &postgres{t: t, data: data, sock: sock, cred: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	for _, dir := range []string{data, sock} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	return pg
}

func (pg *postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(pgBin+name, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pg.cred, Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "PGHOST="+pg.sock, "PGDATABASE=postgres", "LC_ALL=C")
	return cmd
}

func (pg *postgres) must(name string, args ...string) string {
	pg.t.Helper()
	out, err := pg.command(name, args...).CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(pg.sock, "log"))
		pg.t.Fatalf("%s %v: %v\n%s\n%s", name, args, err, out, log)
	}
	return strings.TrimSpace(string(out))
}

func (pg *postgres) sql(query string) string {
	pg.t.Helper()
	return pg.must("psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", query)
}

// start runs the server in the foreground until the returned function stops it.
func (pg *postgres) start() (stop func()) {
	pg.t.Helper()
	log, err := os.Create(filepath.Join(pg.sock, "log"))
	if err != nil {
		pg.t.Fatal(err)
	}
	cmd := pg.command("postgres", "-D", pg.data, "-k", pg.sock, "-c", "listen_addresses=", "-c", "shared_buffers=32MB",
		"-c", "max_wal_size=64MB", "-c", "checkpoint_timeout=30s")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		pg.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	waitFor(pg.t, "PostgreSQL to accept connections", func() bool {
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			pg.t.Fatalf("PostgreSQL ended at start:\n%s", text)
		default:
		}
		return pg.command("pg_isready", "-q").Run() == nil
	})
	return func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // fast shutdown
		<-ended
		log.Close()
	}
}

// load runs TPC-B with 4 clients and one that counts, until stopped.
func (pg *postgres) load() (stop func()) {
	pg.t.Helper()
	pg.must("pgbench", "-i", "-q", "-s", "2")
	pg.sql("create table counter (n bigint primary key)")
	script := filepath.Join(pg.sock, "count.sql")
	if err := os.WriteFile(script, []byte("insert into counter select coalesce(max(n), 0) + 1 from counter;\n"), 0o644); err != nil {
		pg.t.Fatal(err)
	}
	var running []*exec.Cmd
	for _, args := range [][]string{{"-c", "4", "-T", "3600"}, {"-c", "1", "-T", "3600", "-n", "-f", script}} {
		cmd := pg.command("pgbench", args...)
		if err := cmd.Start(); err != nil {
			pg.t.Fatal(err)
		}
		running = append(running, cmd)
	}
	return func() {
		for _, cmd := range running {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
}

// check starts the cluster in data, as after a power cut, and looks at everything a
// database can tell about itself. It returns the counter.
func (pg *postgres) check() int {
	pg.t.Helper()
	// On the same machine the lock file names the source's server, which lives.
	if err := os.Remove(filepath.Join(pg.data, "postmaster.pid")); err != nil && !os.IsNotExist(err) {
		pg.t.Fatal(err)
	}
	stop := pg.start()
	sums := pg.sql("select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers), (select sum(bbalance) from pgbench_branches)")
	parts := strings.Split(sums, "|")
	if parts[0] != parts[1] || parts[1] != parts[2] {
		pg.t.Errorf("sums of accounts, tellers and branches differ: %s", sums)
	}
	counter := pg.sql("select count(*), coalesce(max(n), 0) from counter")
	n, top, _ := strings.Cut(counter, "|")
	if n != top {
		pg.t.Errorf("the counter has holes: %s rows up to %s", n, top)
	}
	pg.sql("create extension if not exists amcheck")
	pg.must("pg_amcheck", "--heapallindexed", "-d", "postgres")
	stop()
	pg.must("pg_checksums", "--check", "-D", pg.data)
	count, _ := strconv.Atoi(n)
	return count
}

// TestPostgresStartsFromTheReplicaAtAnyInstant (G1): the mirror begins while the
// database works; the applier is frozen at random operations; each time the replica is
// copied and started (B1.11, B7.19).
func TestPostgresStartsFromTheReplicaAtAnyInstant(t *testing.T) {
	needRoot(t)
	p := newPair(t, true)
	p.mount()
	pg := newPostgres(t, filepath.Join(p.dir, "pg"), filepath.Join(p.base, "sock"))
	pg.must("initdb", "-D", pg.data, "-k", "-A", "trust", "--no-instructions")
	stopServer := pg.start()
	defer stopServer()
	stopLoad := pg.load()
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
		replica := newPostgres(t, filepath.Join(copied, "pg"), filepath.Join(p.base, "sock-copy"))
		n := replica.check()
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
