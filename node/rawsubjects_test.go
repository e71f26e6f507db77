package node

import (
	"bufio"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/access"
	"understudy/stream"
)

// rawCaller speaks the messaging protocol itself: any subject, any reply.
type rawCaller struct {
	t       *testing.T
	conn    *tls.Conn
	in      *bufio.Reader
	session string
}

// rawCall introduces somebody to a node; machine shows its certificate.
func rawCall(t *testing.T, n *Node, login control.Login) *rawCaller {
	t.Helper()
	cfg := &tls.Config{InsecureSkipVerify: true}
	if login.Machine != nil {
		server := login.Machine.ServerTLS()
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return server.GetCertificate(nil) }
	}
	conn, err := tls.Dial("tcp", n.Addr(), cfg)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	c := &rawCaller{t: t, conn: conn, in: bufio.NewReader(conn), session: rand.Text()}
	line, err := c.in.ReadString('\n')
	must(t, err)
	var info struct {
		Nonce string `json:"nonce"`
	}
	must(t, json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info))
	intro := map[string]any{"name": c.session, "user": login.User, "pass": login.Password, "auth_token": login.Token, "echo": true, "protocol": 1, "headers": true}
	if login.Key != nil {
		public, sign, err := login.Key.Signer()
		must(t, err)
		sig, err := sign([]byte(info.Nonce))
		must(t, err)
		intro["nkey"], intro["sig"] = public, base64.RawURLEncoding.EncodeToString(sig)
	}
	text, err := json.Marshal(intro)
	must(t, err)
	if why, ended := c.say("CONNECT " + string(text)); why != "" || ended {
		t.Fatalf("not admitted: %s", why)
	}
	return c
}

// say sends lines and returns what the node has against them, and whether it ended the
// session.
func (c *rawCaller) say(lines string) (why string, ended bool) {
	c.t.Helper()
	_, _ = fmt.Fprintf(c.conn, "%s\r\nPING\r\n", lines) // the session may end on it
	for {
		line, err := c.in.ReadString('\n')
		switch {
		case err != nil:
			return why, true
		case strings.HasPrefix(line, "-ERR"):
			why += strings.TrimSpace(line)
		case strings.HasPrefix(line, "PONG"):
			return why, false
		}
	}
}

// callers of a node that is paired with indy, and with oslo.
func rawCallers(t *testing.T, n *Node, base string) map[string]control.Login {
	t.Helper()
	for _, name := range []string{"indy", "oslo"} {
		ring, err := access.Open(filepath.Join(base, "ring-"+name), name)
		must(t, err)
		must(t, n.keys.AddPeer(name, "", ring.Key()))
	}
	indy, err := access.Open(filepath.Join(base, "ring-indy"), "indy")
	must(t, err)
	return map[string]control.Login{
		"guest":          {},
		"local admin":    {Token: n.gate.tokens.of(access.Admin)},
		"local monitor":  {Token: n.gate.tokens.of(access.Monitor)},
		"key admin":      {Key: key(t, n, "a", access.Admin)},
		"key monitor":    {Key: key(t, n, "m", access.Monitor)},
		"user admin":     {User: "root", Password: "whatever"}, // the checker of the test takes all
		"paired machine": {Machine: indy},
	}
}

// mayPublish is the table: what a caller may send to.
func mayPublish(caller, subject string) bool {
	if caller == "paired machine" && slices.ContainsFunc([]string{"t.indy.", "m.indy.", "rq.last.indy.", "rq.join", "rq.leave", "rq.rotate", "hb.indy"},
		func(own string) bool { return strings.HasPrefix(subject, own) }) {
		return true
	}
	level := control.None
	switch {
	case strings.HasSuffix(caller, "admin"):
		level = control.Admin
	case strings.HasSuffix(caller, "monitor"):
		level = control.Monitor
	}
	return slices.ContainsFunc(control.Verbs, func(v control.Verb) bool { return subject == "ctl.jersey."+v.Name && v.Level <= level }) ||
		subject == "ctl.$any.version"
}

// foreign are subjects that belong to the store, the server, or somebody else.
func foreign(other string) []string {
	return []string{"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.CREATE.x", "$JS.API.STREAM.DELETE.T=oslo=x=1", "$JS.API.STREAM.PURGE.T=oslo=x=1",
		"$JS.API.STREAM.MSG.GET.T=oslo=x=1", "$JS.API.DIRECT.GET.T=oslo=x=1", "$JS.API.CONSUMER.CREATE.T=oslo=x=1", "$JS.ACK.x", "$JS.FC.x",
		"$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.$G.CONNS", "$SYS.ACCOUNT.$G.CONNS", "t.oslo.x.1", "m.oslo.x.1", "q.x.1", "ack.oslo.x.1", "ack.indy.x.1",
		"hb.jersey", "hb.oslo", "rq.last.oslo.x.1", "rq.list.oslo.x", "ctl.oslo.status", "ctl.jersey", "ctl.jersey.nonsense", "ctl.$any.status", control.PairSubject,
		"_INBOX." + other + ".1", "_INBOX.x", "_R_.x", "nothing", "ctl.jersey.>", "$JS.API.>", ">"}
}

// TestRawSubjects: whoever comes in, by whatever way, sends to no subject and hears none
// but as the table says, however it asks; and its answers go nowhere else.
func TestRawSubjects(t *testing.T) {
	p := &pair{t: t, base: t.TempDir()}
	n := p.startWith("jersey", func(cfg *Config) { cfg.LoginCommand = []string{"/bin/sh", "-c", "echo ok root"} })
	t.Cleanup(p.stop)
	other := rawCall(t, n, control.Login{Token: n.gate.tokens.of(access.Admin)}).session
	asked := 0
	for name, login := range rawCallers(t, n, p.base) {
		c := rawCall(t, n, login)
		subjects := append(foreign(other), stream.JoinSubject, stream.LeaveSubject, stream.RotateSubject, "t.indy.x.1", "m.indy.x.1", "rq.last.indy.x.1", "hb.indy", "ctl.$any.version")
		for _, v := range control.Verbs {
			subjects = append(subjects, "ctl.jersey."+v.Name)
		}
		for _, subject := range subjects {
			why, ended := c.say("PUB " + subject + " 0\r\n")
			denied := strings.Contains(why, "Permissions Violation for Publish")
			if ended || denied == mayPublish(name, subject) || !denied && why != "" {
				t.Fatalf("%s sends to %s: %q, ended %t", name, subject, why, ended)
			}
			asked++
		}
		for i, subject := range append(foreign(other), "*", "*.*", "*.>", "$JS.>", "$SYS.>", "t.>", "t.indy.>", "m.>", "ack.>", "ack.*.>", "ack.indy.>", "_INBOX.>", "_INBOX.*.>", "_INBOX."+other+".>",
			"ctl.>", "ctl.jersey.*", "rq.>", "hb.>", "hb.*", "_INBOX."+c.session+".>") {
			may := subject == "_INBOX."+c.session+".>" || name == "paired machine" && (strings.HasPrefix(subject, "ack.indy.") || subject == "hb.jersey")
			why, ended := c.say(fmt.Sprintf("SUB %s %d", subject, i))
			if denied := strings.Contains(why, "Permissions Violation for Subscription"); ended || denied == may || !denied && why != "" {
				t.Fatalf("%s hears %s: %q, ended %t", name, subject, why, ended)
			}
			asked++
		}
		for _, reply := range []string{"$JS.API.STREAM.PURGE.T=oslo=x=1", "$SYS.REQ.SERVER.PING", "t.oslo.x.1", "ctl.jersey.mount", "_INBOX." + other + ".1", "_INBOX." + c.session} {
			for _, form := range []string{"PUB ctl.$any.version %s 0\r\n", "HPUB ctl.$any.version %s 12 12\r\nNATS/1.0\r\n\r\n"} {
				why, ended := rawCall(t, n, login).say(fmt.Sprintf(form, reply))
				if !ended || !strings.Contains(why, "own inbox only") {
					t.Fatalf("%s has answers go to %s: %q, ended %t", name, reply, why, ended)
				}
				asked++
			}
		}
	}
	t.Logf("%d attempts", asked)
}
