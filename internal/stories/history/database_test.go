package history

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/control"
)

const pgBin = "/usr/lib/postgresql/15/bin/"

// postgres is one cluster, run as the system user postgres.
type postgres struct {
	t    *testing.T
	data string
	sock string
	cred *syscall.Credential
}

func newPostgres(t *testing.T, data, sock string) *postgres {
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

// counted is the counter of the running source.
func (pg *postgres) counted() int {
	pg.t.Helper()
	n, err := strconv.Atoi(pg.sql("select count(*) from counter"))
	must(pg.t, err)
	return n
}

// TestPostgresStartsFromPastMoments (G90): rebuilt at marks set while it works, the database
// starts with the counter of that moment.
func TestPostgresStartsFromPastMoments(t *testing.T) {
	p := newPair(t)
	must(t, os.Chmod(p.base, 0o755))
	pg := newPostgres(t, filepath.Join(p.dir, "pg"), filepath.Join(p.base, "sock"))
	pg.must("initdb", "-D", pg.data, "-k", "-A", "trust", "--no-instructions")
	stopServer := pg.start()
	defer stopServer()
	stopLoad := pg.load()
	defer stopLoad()
	type instant struct {
		mark        control.Mark
		least, most int
	}
	rng := rand.New(rand.NewPCG(6, 7))
	var list []instant
	for i := range scaled(3, 10) {
		least := pg.counted()
		waitFor(t, "the database to work", func() bool { return pg.counted() > least+20+rng.IntN(50) })
		before := pg.counted()
		m := p.mark(fmt.Sprint("moment ", i))
		list = append(list, instant{m, before, pg.counted()})
	}
	stopLoad()
	p.settle()
	for i, at := range list {
		req := control.ReplayRequest{Op: at.mark.Op, Epoch: at.mark.Epoch}
		if i%2 == 1 {
			req = control.ReplayRequest{At: at.mark.Time.Add(time.Millisecond)}
			at.most += 2 // within the millisecond
		}
		dir, rep := p.replay(req)
		must(t, os.Chmod(dir, 0o755))
		replica := newPostgres(t, filepath.Join(dir, "pg"), filepath.Join(p.base, fmt.Sprint("sock-", i)))
		n := replica.check()
		t.Logf("moment %d: operation %d, counter %d, rebuilt in %.2f s", i, rep.Op, n, rep.Seconds)
		if n < at.least || n > at.most {
			t.Errorf("moment %d: counter %d, on the source it was %d to %d", i, n, at.least, at.most)
		}
	}
}
