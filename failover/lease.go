package failover

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// A source holds its addresses on lease from the target that would take them over. The
// target renews it as often as it asks; a source that hears neither that target nor any
// witness gives its addresses up before the target can take them, and has them again when
// it has looked that nobody else answers for them. So an address that moved is answered
// for by one machine, also when the other was alive all the time behind a cut cable.
//
// The lease runs from when the source sent the answer that the target says it got. The
// target counts from when it got it, which is later; no clocks are compared.
//
//	ask:    magic 8 | number 8 | nonce of the source 16 | number of its answer 8 | lease as JSON | key and signature
//	answer: magic 8 | number 8 | nonce 16 | number of the answer 8 | state 1 | key and signature
//
// Nonce and number, which the target repeats, prove that what it says is new.
const (
	leaseAsk    = "USTLSE01"
	leaseAnswer = "USTLSA01"
	leaseHead   = 8 + 8 + 16 + 8
	maxLease    = 12 << 10 // bytes of an ask; 64 addresses take less
)

// The states of a lease, as a source answers.
const (
	leaseNone  = 0 // it gives nothing up: the lease is void, or no witness answered yet
	leaseArmed = 1 // it gives its addresses up when it is cut off
	leaseOff   = 2 // it has given them up
)

// Lease is what a target tells a source.
type Lease struct {
	Target    string     `json:"target"`
	Source    string     `json:"source"`
	Addresses []Leased   `json:"addresses"` // that the target takes over
	LimitMS   int64      `json:"limit_ms"`  // the shortest time to fail
	Witnesses []string   `json:"witnesses,omitempty"`
	Taken     bool       `json:"taken,omitempty"` // the target answers for the addresses now
	Void      bool       `json:"void,omitempty"`  // nothing will be taken over
	Heard     netip.Addr `json:"heard,omitzero"`  // where the target spoke from; the source's to fill
}

// Leased is one address, and the hardware address by which the target would answer for it.
type Leased struct {
	IP  netip.Addr `json:"ip"`
	MAC string     `json:"mac"`
}

// ErrLease is a lease that no target of ours makes.
var ErrLease = errors.New("no such lease")

func (l *Lease) validate() error {
	if l.Target == "" || len(l.Target) > 63 || len(l.Addresses) > maxAddresses || len(l.Witnesses) > maxWitnesses {
		return fmt.Errorf("%w: target %q, %d addresses, %d witnesses", ErrLease, l.Target, len(l.Addresses), len(l.Witnesses))
	}
	if l.LimitMS < minInterval.Milliseconds() || time.Duration(l.LimitMS) > 65535*maxInterval/time.Millisecond {
		return fmt.Errorf("%w: limit of %d ms", ErrLease, l.LimitMS)
	}
	for _, a := range l.Addresses {
		if !a.IP.IsValid() {
			return fmt.Errorf("%w: an address is missing", ErrLease)
		}
	}
	for _, w := range l.Witnesses {
		if _, err := netip.ParseAddr(w); err != nil {
			return fmt.Errorf("%w: witness %q", ErrLease, w)
		}
	}
	return nil
}

func (l *Lease) limit() time.Duration { return time.Duration(l.LimitMS) * time.Millisecond }

// same reports whether both say the same, but for where it was heard.
func (l Lease) same(o Lease) bool {
	l.Heard, o.Heard = netip.Addr{}, netip.Addr{}
	a, err1 := json.Marshal(l)
	b, err2 := json.Marshal(o)
	return err1 == nil && err2 == nil && string(a) == string(b)
}

// echo is the newest answer of a source that a target got.
type echo struct {
	nonce  [16]byte
	number uint64
}

// encodeAsk makes an ask, but for its signature.
func encodeAsk(number uint64, e echo, l *Lease) ([]byte, error) {
	body, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("lease of %s: %w", l.Source, err)
	}
	b := binary.BigEndian.AppendUint64([]byte(leaseAsk), number)
	b = binary.BigEndian.AppendUint64(append(b, e.nonce[:]...), e.number)
	return append(b, body...), nil
}

// decodeAsk reads an ask and what was signed of it. The signature is still to be checked.
func decodeAsk(b []byte, signed int) (number uint64, e echo, l Lease, msg, sig []byte, err error) {
	if len(b) < leaseHead+signed || len(b) > maxLease || string(b[:8]) != leaseAsk {
		return 0, e, l, nil, nil, ErrLease
	}
	msg, sig = b[:len(b)-signed], b[len(b)-signed:]
	number = binary.BigEndian.Uint64(b[8:])
	copy(e.nonce[:], b[16:])
	e.number = binary.BigEndian.Uint64(b[32:])
	if err := json.Unmarshal(msg[leaseHead:], &l); err != nil {
		return 0, e, l, nil, nil, fmt.Errorf("%w: %w", ErrLease, err)
	}
	return number, e, l, msg, sig, l.validate()
}

// encodeAnswer makes an answer, but for its signature.
func encodeAnswer(number uint64, e echo, state byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte(leaseAnswer), number)
	b = binary.BigEndian.AppendUint64(append(b, e.nonce[:]...), e.number)
	return append(b, state)
}

// decodeAnswer reads one.
func decodeAnswer(b []byte, signed int) (number uint64, e echo, state byte, msg, sig []byte, err error) {
	if len(b) != leaseHead+1+signed || string(b[:8]) != leaseAnswer {
		return 0, e, 0, nil, nil, ErrLease
	}
	number = binary.BigEndian.Uint64(b[8:])
	copy(e.nonce[:], b[16:])
	e.number = binary.BigEndian.Uint64(b[32:])
	return number, e, b[leaseHead], b[:leaseHead+1], b[leaseHead+1:], nil
}

// term is how long a lease still runs. It is a plain value; times are of a clock that
// is never set and goes on while the machine sleeps.
type term struct {
	limit     time.Duration // the target's shortest time to fail
	confirmed time.Duration // when the answer was sent that the target got last
	witness   time.Duration // when a witness answered last
}

// expired reports whether the addresses have to be given up: at nine tenths of the time
// after which the target may act.
func (t term) expired(now time.Duration) bool {
	return now-max(t.confirmed, t.witness) > t.limit*9/10
}

// doubtful reports whether the target was not heard for so long that it may have acted
// unheard.
func (t term) doubtful(now time.Duration) bool {
	return now-t.confirmed > min(t.limit/2, 5*time.Second)
}
