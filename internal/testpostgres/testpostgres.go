// Package testpostgres runs PostgreSQL on directories of tests, as the system user
// postgres, and asks a database what it can tell about itself after a power cut. It is for
// tests only and needs root and PostgreSQL 15 (ops/test-deps.sh).
package testpostgres

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Bin is where the programs are, with a slash.
const Bin = "/usr/lib/postgresql/15/bin/"

// startTimeout is how long a server may take until it accepts connections: its recovery
// included, on a busy machine.
const startTimeout = 2 * time.Minute

// Cluster is a database in Data whose socket and log are in Sock. One goroutine calls its
// methods.
type Cluster struct {
	t    testing.TB
	Data string
	Sock string
	cred *syscall.Credential
}

// New makes the directories where they are missing and gives them to the database's user.
func New(t testing.TB, data, sock string) *Cluster {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatalf("system user postgres: %v; install it: bash ops/test-deps.sh", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	pg := &Cluster{t: t, Data: data, Sock: sock, cred: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
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

// Command is one of the programs, to be run as the database's user against this cluster.
func (pg *Cluster) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(Bin+name, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pg.cred, Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "PGHOST="+pg.Sock, "PGDATABASE=postgres", "LC_ALL=C")
	return cmd
}

// Run runs a program that has to succeed and returns what it says.
func (pg *Cluster) Run(name string, args ...string) string {
	pg.t.Helper()
	out, err := pg.Command(name, args...).CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(pg.Sock, "log"))
		pg.t.Fatalf("%s %v: %v\n%s\n%s", name, args, err, out, log)
	}
	return strings.TrimSpace(string(out))
}

// SQL returns the rows of a query, their columns joined by "|".
func (pg *Cluster) SQL(query string) string {
	pg.t.Helper()
	return pg.Run("psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", query)
}

// Init makes a cluster with checksums of its pages.
func (pg *Cluster) Init() {
	pg.t.Helper()
	pg.Run("initdb", "-D", pg.Data, "-k", "-A", "trust", "--no-instructions")
}

// Start runs the server in the foreground until the returned function stops it.
func (pg *Cluster) Start() (stop func()) {
	pg.t.Helper()
	log, err := os.Create(filepath.Join(pg.Sock, "log"))
	if err != nil {
		pg.t.Fatal(err)
	}
	cmd := pg.Command("postgres", "-D", pg.Data, "-k", pg.Sock, "-c", "listen_addresses=", "-c", "shared_buffers=32MB",
		"-c", "max_wal_size=64MB", "-c", "checkpoint_timeout=30s")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		pg.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	for deadline := time.Now().Add(startTimeout); pg.Command("pg_isready", "-q").Run() != nil; time.Sleep(20 * time.Millisecond) {
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			pg.t.Fatalf("PostgreSQL ended at start:\n%s", text)
		default:
		}
		if time.Now().After(deadline) {
			pg.t.Fatalf("PostgreSQL accepts no connections within %v", startTimeout)
		}
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // fast shutdown
		<-ended
		_ = log.Close()
	}
}

// Load runs TPC-B with 4 clients and one that counts, until stopped.
func (pg *Cluster) Load() (stop func()) {
	pg.t.Helper()
	pg.Run("pgbench", "-i", "-q", "-s", "2")
	pg.SQL("create table counter (n bigint primary key)")
	script := filepath.Join(pg.Sock, "count.sql")
	if err := os.WriteFile(script, []byte("insert into counter select coalesce(max(n), 0) + 1 from counter;\n"), 0o644); err != nil {
		pg.t.Fatal(err)
	}
	var running []*exec.Cmd
	for _, args := range [][]string{{"-c", "4", "-T", "3600"}, {"-c", "1", "-T", "3600", "-n", "-f", script}} {
		cmd := pg.Command("pgbench", args...)
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

// Counted is how far the load of a running cluster has counted.
func (pg *Cluster) Counted() int {
	pg.t.Helper()
	n, err := strconv.Atoi(pg.SQL("select count(*) from counter"))
	if err != nil {
		pg.t.Fatal(err)
	}
	return n
}

// Check starts the cluster as after a power cut and looks at everything a database can tell
// about itself. It returns how far the load had counted.
func (pg *Cluster) Check() int {
	pg.t.Helper()
	// On the same machine the lock file names the source's server, which lives.
	if err := os.Remove(filepath.Join(pg.Data, "postmaster.pid")); err != nil && !os.IsNotExist(err) {
		pg.t.Fatal(err)
	}
	stop := pg.Start()
	sums := pg.SQL("select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers), (select sum(bbalance) from pgbench_branches)")
	parts := strings.Split(sums, "|")
	if parts[0] != parts[1] || parts[1] != parts[2] {
		pg.t.Errorf("sums of accounts, tellers and branches differ: %s", sums)
	}
	counter := pg.SQL("select count(*), coalesce(max(n), 0) from counter")
	n, top, _ := strings.Cut(counter, "|")
	if n != top {
		pg.t.Errorf("the counter has holes: %s rows up to %s", n, top)
	}
	pg.SQL("create extension if not exists amcheck")
	pg.Run("pg_amcheck", "--heapallindexed", "-d", "postgres")
	stop()
	pg.Run("pg_checksums", "--check", "-D", pg.Data)
	count, _ := strconv.Atoi(n)
	return count
}
