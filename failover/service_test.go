package failover

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"testing"
	"time"
)

// plainKeys signs with the bytes themselves, as long as wanted.
type plainKeys struct{ length int }

func (k plainKeys) Sign(msg []byte) []byte {
	return append(bytes.Clone(msg), make([]byte, k.length)...)[:k.length]
}
func (k plainKeys) Signed(_ string, msg, sig []byte) bool { return bytes.Equal(k.Sign(msg), sig) }

// TestServiceAnswersFromTheAddressAsked: a machine with several addresses answers for each
// of them, also for those that its routes would not choose. 127.0.0.2 is such a one.
func TestServiceAnswersFromTheAddressAsked(t *testing.T) {
	t.Parallel()
	keys := plainKeys{64}
	for _, listen := range []string{"0.0.0.0:0", "[::]:0", "127.0.0.2:0"} {
		conn, err := listenArrivals(listen, maxLease)
		if err != nil {
			t.Fatal(listen, err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			answerBeats(conn, keys, nil, keys.length)
		}()
		t.Cleanup(func() { _ = conn.Close(); <-done })
		ips := []string{"127.0.0.2"}
		if listen != "127.0.0.2:0" {
			ips = []string{"127.0.0.1", "127.0.0.2", "127.1.2.3", "::1"}
		}
		for _, ip := range ips {
			answered(t, listen, netip.MustParseAddr(ip), conn.LocalAddr().(*net.UDPAddr).Port, keys)
		}
	}
}

// answered probes an address until it answers.
func answered(t *testing.T, listen string, ip netip.Addr, port int, keys plainKeys) {
	t.Helper()
	p, err := NewBeat("indy", ip, port, keys, keys.length)
	if err != nil {
		t.Fatal(listen, ip, err)
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		_ = p.Send() // asked again
		select {
		case <-p.Answers():
			return
		case <-again.C:
		case <-ctx.Done():
			t.Errorf("listening at %s: %s does not answer", listen, ip)
			return
		}
	}
}
