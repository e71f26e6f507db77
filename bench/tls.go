package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// tlsRow measures what a paired link gives, which is always TLS 1.3, against plain TCP on
// the same loopback, and what TLS alone costs there, with nothing of ours.
func tlsRow(ctx context.Context, b *bench) (err error) {
	p, err := b.startPair(ctx, "tls")
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, p.stop()) }()
	dir := filepath.Join(b.dir, "set")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	id, err := p.protect(ctx, dir, dir+".replica")
	if err != nil {
		return err
	}
	secret, err := selfSigned()
	if err != nil {
		return err
	}
	plain, private, linkRate, create := wireFigures{}, wireFigures{}, []float64{}, percentiles{}
	for round := range b.scale.rounds {
		for _, w := range []struct {
			cfg *tls.Config
			f   *wireFigures
		}{{nil, &plain}, {secret, &private}} {
			if err := w.f.measure(ctx, w.cfg, b.scale.samples*10, b.scale.fileSize); err != nil {
				return err
			}
		}
		var ms map[string][]float64
		if err := child(ctx, "latency", latencyArgs{Source: dir, Replica: dir + ".replica", Samples: b.scale.samples, Tag: fmt.Sprint(round)}, &ms); err != nil {
			return err
		}
		create.add(ms["create"])
		rate, err := p.writeAndSettle(ctx, manyArgs{Dirs: []string{dir}, Bytes: b.scale.fileSize / 4, Tag: fmt.Sprintf("r%d", round)}, []int{id})
		if err != nil {
			return err
		}
		linkRate = append(linkRate, rate)
	}
	b.reportTLS(create.p50, linkRate, plain, private)
	return nil
}

func (b *bench) reportTLS(create, rate []float64, plain, private wireFigures) {
	versus := func(name, unit string, v, ref []float64, what string) {
		b.table.add(figure{name: name, value: median(v), unit: unit, reference: what + " " + short(median(ref)) + " " + unit, ratio: median(v) / median(ref)})
	}
	versus("paired link, 4 KiB file until visible, p50", "ms", create, plain.p50, "plain loopback, there and back")
	versus("paired link, files written until applied", "MB/s", rate, plain.rate, "plain loopback")
	versus("TLS alone, 4 KiB there and back, p50", "ms", private.p50, plain.p50, "plain loopback")
	versus("TLS alone, one stream", "MB/s", private.rate, plain.rate, "plain loopback")
}

// wireFigures are those of a connection through loopback, one entry a round.
type wireFigures struct{ p50, rate []float64 } // milliseconds, MB/s

const wireMessage = 4096

// measure sends messages that come back, one at a time, then a stream. cfg nil: plain.
func (f *wireFigures) measure(ctx context.Context, cfg *tls.Config, messages int, stream int64) error {
	conn, err := dialEcho(ctx, cfg, messages, stream)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	body := randomPool(1 << 20)
	var ms []float64
	for range messages {
		begin := time.Now()
		_, err := conn.Write(body[:wireMessage])
		if err == nil {
			_, err = io.ReadFull(conn, body[:wireMessage])
		}
		if err != nil {
			return fmt.Errorf("loopback: %w", err)
		}
		ms = append(ms, milliseconds(begin))
	}
	begin := time.Now()
	for sent := int64(0); sent < stream && err == nil; sent += int64(len(body)) {
		_, err = conn.Write(body)
	}
	if err == nil {
		_, err = io.ReadFull(conn, body[:1]) // all of it has come
	}
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	f.p50, f.rate = append(f.p50, quantile(ms, 0.5)), append(f.rate, float64(stream)/1e6/time.Since(begin).Seconds())
	return nil
}

// dialEcho connects to a server of its own that sends back so many messages, takes a
// stream of whole MiB and answers it with one byte.
func dialEcho(ctx context.Context, cfg *tls.Config, messages int, stream int64) (net.Conn, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if cfg != nil {
			conn = tls.Server(conn, cfg)
		}
		_ = echo(conn, messages, stream) // the other side sees the end of the connection
	}()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	if err != nil || cfg == nil {
		return conn, err
	}
	secret := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}) //nolint:gosec // it is only about time
	if err := secret.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secret, nil
}

func echo(conn net.Conn, messages int, stream int64) error {
	body := make([]byte, 1<<20)
	for range messages {
		if _, err := io.ReadFull(conn, body[:wireMessage]); err != nil {
			return err
		}
		if _, err := conn.Write(body[:wireMessage]); err != nil {
			return err
		}
	}
	for got := int64(0); got < stream; got += int64(len(body)) {
		if _, err := io.ReadFull(conn, body); err != nil {
			return err
		}
	}
	_, err := conn.Write(body[:1])
	return err
}

// selfSigned is a key of the kind that machines have.
func selfSigned() (*tls.Config, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	cert := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, &cert, &cert, public, private)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: private}}}, nil
}
