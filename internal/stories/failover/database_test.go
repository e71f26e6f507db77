package failover

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/testpostgres"
)

// pg runs a program of the database on a host, as its user, to its end.
func (s *stage) pg(db *testpostgres.Cluster, host int, name string, args ...string) string {
	s.t.Helper()
	cmd := db.Command(name, args...)
	var out []byte
	err := s.b.Hosts[host].Do(func() (err error) { out, err = cmd.CombinedOutput(); return err })
	if err != nil {
		s.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// acked is a transaction that the database said it had committed.
type acked struct {
	client, n int
	by        string // who said so
	at        time.Time
}

// pool is a client's connections to the database, each of which commits one transaction
// after another and connects again when it is lost.
type pool struct {
	mu   sync.Mutex // guards acks
	acks []acked
	stop chan struct{}
	wait sync.WaitGroup
}

func (s *stage) pool(ip string, size int) *pool {
	p := &pool{stop: make(chan struct{})}
	for c := range size {
		p.wait.Go(func() {
			for next := 1; ; {
				select {
				case <-p.stop:
					return
				default:
					next = p.session(s, ip, c, next)
				}
			}
		})
	}
	s.t.Cleanup(p.end)
	return p
}

func (p *pool) end() {
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
	p.wait.Wait()
}

// session commits from number next on until the connection is lost.
func (p *pool) session(s *stage, ip string, client, next int) int {
	cmd := exec.Command("psql", "-X", "-At", "-q", "-v", "ON_ERROR_STOP=1", fmt.Sprintf("host=%s port=5432 user=postgres dbname=postgres connect_timeout=2 tcp_user_timeout=600 sslmode=disable gssencmode=disable", ip))
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil || s.b.Hosts[hostClient].Do(cmd.Start) != nil {
		return next
	}
	done := make(chan struct{})
	go func() {
		select {
		case <-p.stop:
			_ = cmd.Process.Kill()
		case <-done:
		}
	}()
	defer func() { close(done); _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	lines := bufio.NewScanner(out)
	for {
		// What was sent and not answered may have been committed.
		if _, err := fmt.Fprintf(in, "insert into work values (%d, %d) on conflict do nothing; select current_setting('cluster_name');\n", client, next); err != nil || !lines.Scan() {
			return next
		}
		p.mu.Lock()
		p.acks = append(p.acks, acked{client, next, lines.Text(), time.Now()})
		p.mu.Unlock()
		next++
	}
}

// by lists what a server acknowledged.
func (p *pool) by(name string) (list []acked) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.acks {
		if a.by == name {
			list = append(list, a)
		}
	}
	return list
}

// TestDatabaseContinuesAtTheTarget: a client holds a pool of connections to PostgreSQL at
// the source's address; the source dies; the target takes the address over, its post script
// starts PostgreSQL on the replica, and the pool goes on. Every transaction that had been
// shipped is there, and of each connection's none is missing before one that is there.
func TestDatabaseContinuesAtTheTarget(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	must(t, os.Chmod(s.base, 0o755))
	dir, replica := s.protect("stacked")
	data, sock := filepath.Join(dir, "pg"), filepath.Join(s.base, "sock")
	db := testpostgres.New(t, data, sock)
	s.pg(db, hostSource, "initdb", "-D", data, "-N", "-A", "trust", "-U", "postgres")
	must(t, os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte("local all all trust\nhost all all 0.0.0.0/0 trust\n"), 0o644))
	options := "-k " + sock + " -c listen_addresses=* -c shared_buffers=32MB -c cluster_name="
	s.pg(db, hostSource, "pg_ctl", "-D", data, "-w", "-l", filepath.Join(sock, "indy.log"), "-o", options+"indy", "start")
	t.Cleanup(func() { s.killServer(data) })
	s.pg(db, hostSource, "psql", "-X", "-q", "-h", sock, "-U", "postgres", "-c", "create table work (client int, n int, primary key (client, n))")
	log := filepath.Join(sock, "jersey.log")
	post := s.scriptFile("start-database", fmt.Sprintf("rm -f %[1]s/pg/postmaster.pid\nexec setpriv --reuid postgres --regid postgres --clear-groups %[2]spg_ctl -D %[1]s/pg -w -l %[3]s -o '%[4]sjersey' start >/dev/null 2>&1\n",
		replica, testpostgres.Bin, log, strings.Replace(options, "-k "+sock, "-c unix_socket_directories=", 1)))
	t.Cleanup(func() { s.killServer(filepath.Join(replica, "pg")) })
	s.monitor(func(m *control.MonitorConfig) {
		m.Scripts = map[string]control.MonitorScript{"postfailover": {Path: post, Wait: true}}
	}, s.address(s.source4(), fastInterval, 5, "both"))
	s.watching()
	p := s.pool(s.source4(), 4)
	waitFor(t, "transactions", func() bool { return len(p.by("indy")) > 100 })
	shipped := len(p.by("indy"))
	s.source.Ask("settle", control.SettleRequest{ID: s.source.Status().Connections[0].ID, TimeoutMS: 90_000}, nil)
	s.b.Die(hostSource)
	waitFor(t, "the pool to go on at the target", func() bool { return len(p.by("jersey")) > 20 })
	p.end()
	before, after := p.by("indy"), p.by("jersey")
	t.Logf("%d transactions acknowledged, at least %d shipped; from the source's last answer to the target's first: %v", len(before), shipped,
		after[0].at.Sub(before[len(before)-1].at).Round(time.Millisecond))
	s.compare(db, before, shipped)
	if st := s.sees(); len(st.Errors) > 0 {
		raw, _ := os.ReadFile(log)
		t.Errorf("errors: %q\n%s", st.Errors, raw)
	}
}

// compare looks for the source's transactions in the target's database.
func (s *stage) compare(db *testpostgres.Cluster, acks []acked, shipped int) {
	s.t.Helper()
	rows := s.pg(db, hostTarget, "psql", "-X", "-At", "-F", " ", "-h", s.b.Addr(hostTarget), "-U", "postgres", "-d", "postgres", "-c", "select client, n from work")
	there := map[acked]bool{}
	for line := range strings.SplitSeq(rows, "\n") {
		var a acked
		if _, err := fmt.Sscan(line, &a.client, &a.n); err == nil {
			there[a] = true
		}
	}
	lost, gone := 0, map[int]bool{}
	for i, a := range acks {
		has := there[acked{client: a.client, n: a.n}]
		switch {
		case !has && i < shipped:
			s.t.Fatalf("transaction %d of client %d was shipped and is missing", a.n, a.client)
		case !has:
			lost, gone[a.client] = lost+1, true
		case gone[a.client]:
			s.t.Fatalf("transaction %d of client %d is there, one before it is not", a.n, a.client)
		}
	}
	s.t.Logf("%d of the last %d transactions had not been shipped", lost, len(acks)-shipped)
}

// killServer ends the database server in data, if one runs there.
func (s *stage) killServer(data string) {
	f, err := os.Open(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil && err != io.EOF {
		return
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 1 {
		_ = syscall.Kill(pid, syscall.SIGQUIT)
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
