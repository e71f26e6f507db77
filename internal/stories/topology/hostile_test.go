package topology

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"understudy/internal/access"
	"understudy/internal/checked"
)

// hostile is a paired machine that does harm: it speaks the messaging protocol itself,
// with a certificate the target knows.
type hostile struct {
	Home   string // its keyring
	Name   string
	Target string // its name
	Addr   string
	Place  string   // where it may write
	Others []string // names of other sources
	Taken  string   // a path another source writes to
	Data   string   // the target's data directory
}

// hostileSays counts what it got out, for the log.
var hostileSays atomic.Uint64

func (h *hostile) run(ctx context.Context, ready func(string)) error {
	keys, err := access.Open(h.Home, h.Name)
	if err != nil {
		return err
	}
	ready(h.Addr)
	harm := []func(c *rawConn) error{h.join, h.garbage, h.flood, h.others, h.claims, h.syntax}
	for i := 0; ctx.Err() == nil; i++ {
		c, err := dialRaw(ctx, h.Addr, keys)
		if err != nil { // it may have been thrown out; it comes back
			wait(ctx, 50*time.Millisecond)
			continue
		}
		if i == 0 {
			_ = h.join(c)
			c.heard(ctx)
		}
		_ = harm[i%len(harm)](c) // it ends with the target's patience
		c.heard(ctx)
		c.Close()
	}
	fmt.Println("said", hostileSays.Load())
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// rawConn is an introduced session.
type rawConn struct {
	net.Conn
	session string
	pongs   chan struct{} // closed when the target ended the session
}

// heard waits until the target has read what was said, or has had enough.
func (c *rawConn) heard(ctx context.Context) {
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		return
	}
	select {
	case <-ctx.Done():
	case <-c.pongs:
	case <-time.After(10 * time.Second):
	}
}

// listen reads what it is told.
func (c *rawConn) listen() {
	defer close(c.pongs)
	for s := bufio.NewScanner(c); s.Scan(); {
		if s.Text() == "PONG" {
			c.pongs <- struct{}{}
		}
	}
}

func dialRaw(ctx context.Context, addr string, keys *access.Keyring) (*rawConn, error) {
	server := keys.ServerTLS()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return server.GetCertificate(nil) }}}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &rawConn{Conn: conn, session: rand.Text(), pongs: make(chan struct{}, 16)}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	go c.listen()
	intro, _ := json.Marshal(map[string]any{"name": c.session, "echo": true, "protocol": 1, "headers": true})
	if _, err = fmt.Fprintf(conn, "CONNECT %s\r\n", intro); err == nil {
		c.heard(ctx)
	}
	return c, err
}

// say publishes one message.
func (c *rawConn) say(subject string, data []byte) error {
	_, err := fmt.Fprintf(c, "PUB %s _INBOX.%s.1 %d\r\n%s\r\n", subject, c.session, len(data), data)
	hostileSays.Add(1)
	return err
}

// joins asks the target to keep a replica at a place.
func (h *hostile) joins(c *rawConn, source, connection, place string) error {
	req, _ := json.Marshal(map[string]any{"version": 1, "target": h.Target, "info": map[string]any{
		"source": source, "connection": connection, "set": "evil", "epoch": 7,
		"roots": []map[string]any{{"tree": 0, "obj": map[string]any{"Ino": 2, "Gen": 3}, "from": "/evil", "path": place}}}})
	return c.say("rq.join", checked.Seal(req))
}

// join begins an epoch of its own, as it may.
func (h *hostile) join(c *rawConn) error { return h.joins(c, h.Name, "evil", h.Place) }

// garbage sends what is no frame, to its own queue and its own mirror lane.
func (h *hostile) garbage(c *rawConn) error {
	buf := make([]byte, 4096)
	for range 200 {
		_, _ = rand.Read(buf)
		for _, lane := range []string{"t.", "m."} {
			if err := c.say(lane+h.Name+".evil.7", buf); err != nil {
				return err
			}
		}
	}
	return nil
}

// flood sends as fast as it goes.
func (h *hostile) flood(c *rawConn) error {
	buf := make([]byte, 512<<10)
	for range 60 {
		if err := c.say("t."+h.Name+".evil.7", buf); err != nil {
			return err
		}
		if err := c.say("m."+h.Name+".evil.7", buf); err != nil {
			return err
		}
	}
	return nil
}

// others speaks for other sources, and to the store itself.
func (h *hostile) others(c *rawConn) error {
	subjects := []string{"$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "ctl." + h.Target + ".shutdown", "$SYS.REQ.SERVER.PING"}
	for _, o := range h.Others {
		subjects = append(subjects, "rq.leave", "hb."+o, "t."+o+".evil.7", "m."+o+".evil.7", "ack."+o+".evil.7", "rq.list."+o+".evil")
	}
	for _, s := range subjects {
		leave, _ := json.Marshal(map[string]string{"source": h.Others[0], "connection": "evil"})
		if err := c.say(s, checked.Seal(leave)); err != nil {
			return err
		}
	}
	return nil
}

// claims wants others' places, under its own name and under theirs.
func (h *hostile) claims(c *rawConn) error {
	for i, place := range []string{h.Taken, h.Taken + "/below", h.Data, h.Data + "/nats", "/", "/etc/../etc", "relative"} {
		if err := h.joins(c, h.Name, fmt.Sprint("claim", i), place); err != nil {
			return err
		}
		if err := h.joins(c, h.Others[0], fmt.Sprint("claim", i), place); err != nil {
			return err
		}
	}
	return nil
}

// syntax is no protocol at all.
func (h *hostile) syntax(c *rawConn) error {
	_, err := fmt.Fprintf(c, "PUB t.%s.evil.7 99999999999\r\nSUB > 1\r\nHPUB x y z\r\n\x00\xff\r\n", h.Name)
	return err
}
