package stream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"understudy/fileop"
)

// ownedCluster is a messaging server as its operator runs it: TLS, and users with
// credentials who may do what docs/operate/cluster.md says and nothing else.
type ownedCluster struct {
	t       *testing.T
	dir     string
	opt     *server.Options
	ns      *server.Server
	account nkeys.KeyPair
}

func newOwnedCluster(t *testing.T) *ownedCluster {
	t.Helper()
	c := &ownedCluster{t: t, dir: t.TempDir()}
	operator, err1 := nkeys.CreateOperator()
	system, err2 := nkeys.CreateAccount()
	account, err3 := nkeys.CreateAccount()
	mustAll(t, err1, err2, err3)
	c.account = account
	oc := jwt.NewOperatorClaims(public(t, operator))
	oc.SystemAccount = public(t, system)
	accounts := &server.MemAccResolver{}
	for _, kp := range []nkeys.KeyPair{system, account} {
		ac := jwt.NewAccountClaims(public(t, kp))
		if kp == account {
			ac.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: jwt.NoLimit, MemoryStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
		}
		token, err := ac.Encode(operator)
		mustAll(t, err, accounts.Store(ac.Subject, token))
	}
	c.opt = &server.Options{ServerName: "n1", Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: filepath.Join(c.dir, "js"), MaxPayload: 2 << 20,
		NoSigs: true, NoLog: true, TrustedOperators: []*jwt.OperatorClaims{oc}, AccountResolver: accounts, SystemAccount: public(t, system),
		TLSConfig: c.certificate(), TLSTimeout: 5}
	t.Cleanup(c.stop)
	c.start()
	return c
}

func (c *ownedCluster) start() {
	c.t.Helper()
	opt := *c.opt // the server fills in more, which it does not take again
	ns, err := server.NewServer(&opt)
	mustAll(c.t, err)
	ns.Start()
	if !ns.ReadyForConnections(deadline) {
		c.t.Fatal("messaging server is not ready")
	}
	c.ns, c.opt.Port = ns, ns.Addr().(*net.TCPAddr).Port // the same after a restart
}

func (c *ownedCluster) stop() {
	if c.ns != nil {
		c.ns.Shutdown()
		c.ns.WaitForShutdown()
		c.ns = nil
	}
}

// certificate is signed by itself; ca.pem is what clients know it by.
func (c *ownedCluster) certificate() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	mustAll(c.t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "n1"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	mustAll(c.t, err, os.WriteFile(c.ca(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func (c *ownedCluster) ca() string { return filepath.Join(c.dir, "ca.pem") }

// user is the settings of a machine whose user may do no more than the documents say.
func (c *ownedCluster) user(machine string) ClusterConfig {
	c.t.Helper()
	kp, err := nkeys.CreateUser()
	mustAll(c.t, err)
	uc := jwt.NewUserClaims(public(c.t, kp))
	allowed := jwt.StringList{"us." + machine + ".>", "_INBOX.>", "$JS.API.>"}
	uc.Permissions.Pub.Allow, uc.Permissions.Sub.Allow = allowed, allowed
	token, err := uc.Encode(c.account)
	mustAll(c.t, err)
	seed, err := kp.Seed()
	mustAll(c.t, err)
	creds, err := jwt.FormatUserConfig(token, seed)
	file := filepath.Join(c.dir, machine+".creds")
	mustAll(c.t, err, os.WriteFile(file, creds, 0o600))
	return ClusterConfig{URLs: []string{fmt.Sprintf("tls://127.0.0.1:%d", c.opt.Port)}, Creds: file, CA: c.ca(), Replicas: 1}
}

func public(t *testing.T, kp nkeys.KeyPair) string {
	t.Helper()
	s, err := kp.PublicKey()
	mustAll(t, err)
	return s
}

func mustAll(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestClusterWithCredentials: both queues live in a cluster that is reached by TLS and by
// users who may do what the documents say; also one that was away for a while.
func TestClusterWithCredentials(t *testing.T) {
	c := newOwnedCluster(t)
	src := startServer(t, ServerConfig{Name: "alpha", Cluster: c.user("alpha")})
	dst := startServer(t, ServerConfig{Name: "beta", Listen: "127.0.0.1:0", Keys: testKeys().beta, Cluster: c.user("beta")})
	j := openJournal(t, src, JournalConfig{})
	r := openReceiver(t, dst, ReceiverConfig{})
	l := dial(t, dst.Addr().String())
	goRun(t, j.Run)
	tx := NewTransmitter(j, l, TransmitterConfig{Connection: "accounts", Source: "alpha", Gate: new(Valve)}, quiet())
	goRun(t, tx.Run)
	put(t, j, 1, 500, 2000)
	frame := expect(t, r, 1, 500)
	j.Confirm(frame, 500)
	r.Purge(frame)
	eventually(t, "queues to be trimmed", func() bool { return j.st.purgedTo() == frame && r.st.purgedTo() == frame })
	c.stop()
	put(t, j, 501, 600, 2000)
	c.start()
	expect(t, r, 501, 600)
	for _, s := range []*Server{src, dst} {
		eventually(t, "queue in the cluster", func() bool {
			stored, err := s.Stored(testCtx(t))
			return err == nil && len(stored) == 1 && stored[0].far
		})
	}
}

// TestClusterThatCannotBeUsed: a cluster that is away, whose certificate is not known, or that
// refuses the user is an error that says so, and not a wait, and the machine starts all the
// same; a file that is not there ends the start.
func TestClusterThatCannotBeUsed(t *testing.T) {
	c := newOwnedCluster(t)
	good := c.user("alpha")
	away, noCA, noCreds, stranger := good, good, good, good
	away.URLs = []string{"tls://127.0.0.1:1"}
	noCA.CA = ""
	noCreds.Creds = filepath.Join(c.dir, "none.creds")
	other := newOwnedCluster(t).user("alpha")
	stranger.Creds = other.Creds
	for name, cfg := range map[string]struct {
		ClusterConfig
		text string
	}{
		"away": {away, "nothing listens there"}, "not known": {noCA, "certificate"}, "refused": {stranger, "does not accept this user"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, ServerConfig{Name: "alpha", Cluster: cfg.ClusterConfig})
			began := time.Now()
			_, err := s.OpenJournal(testCtx(t), JournalConfig{Connection: "accounts", Epoch: fileop.Epoch(1)})
			if err == nil || !strings.Contains(err.Error(), cfg.text) || !strings.Contains(err.Error(), cfg.URLs[0]) {
				t.Errorf("error %v, want %q", err, cfg.text)
			}
			if took := time.Since(began); took > deadline/2 {
				t.Errorf("it took %v", took)
			}
		})
	}
	_, err := Start(ServerConfig{Name: "alpha", StoreDir: storeDir(t), Cluster: noCreds}, quiet())
	if err == nil || !strings.Contains(err.Error(), noCreds.Creds) {
		t.Errorf("a start without the credentials: %v", err)
	}
}
