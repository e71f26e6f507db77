package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"understudy/internal/access"
)

// Pairing: what the machine that joins says to the one that invited it. It comes on a
// connection that proved the keys of both, by somebody who said the secret of a code.

// PairSubject is where an invited machine sends its request.
const PairSubject = "pair.join"

// InvitedUser is as whom it logs in; the password is the secret.
const InvitedUser = "$invited"

// pairVersion is raised when an older machine would misunderstand a request.
const pairVersion = 1

// PairRequest tells the inviting machine about the one that joins.
type PairRequest struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Address string `json:"address"` // host:port where it listens; "": not reachable from elsewhere
	Target  string `json:"target"`  // host:port by which it reached the inviting machine
}

// PairReply tells the one that joins about the inviting machine.
type PairReply struct {
	Name    string `json:"name"`
	Address string `json:"address"` // host:port where it listens, as the other can use it
}

// ServePairing answers requests of invited machines until stop is called.
func ServePairing(s Server, h func(ctx context.Context, r PairRequest) (PairReply, error)) (stop func(), err error) {
	return s.Handle(PairSubject, func(ctx context.Context, data []byte) ([]byte, error) {
		return answer(ctx, PairSubject, func(ctx context.Context, raw json.RawMessage) (any, error) {
			var r PairRequest
			if err := json.Unmarshal(raw, &r); err != nil { // a newer machine may say more
				return nil, Errorf(BadRequest, "", "pairing request: %v", err)
			}
			if r.Version != pairVersion {
				return nil, Errorf(Refused, "upgrade the older machine", "pairing protocol %d, here %d", r.Version, pairVersion)
			}
			return h(ctx, r)
		}, data), nil
	})
}

// pairTimeout bounds a pairing from this side.
const pairTimeout = 30 * time.Second

// Join pairs the machine with this keyring with the one at address (host:port), which
// made the code. It returns who that is, and its key; noting it down is the caller's.
func Join(ctx context.Context, address string, code access.Code, ring *access.Keyring, r PairRequest) (reply PairReply, key access.Fingerprint, err error) {
	ctx, cancel := context.WithTimeout(ctx, pairTimeout)
	defer cancel()
	c, err := Dial(ctx, address, anyNode, Login{User: InvitedUser, Password: code.Password(), Machine: ring,
		Accept: func(k access.Fingerprint) error {
			if !code.Fits(k) {
				return fmt.Errorf("the key of the machine is %s, which did not make this code; a wrong address, or somebody in between", k.Short())
			}
			key = k
			return nil
		}})
	if e := new(Error); errors.As(err, &e) && e.Code == Denied {
		e.Hint = "make a new code with: understudy pair invite"
	}
	if err != nil {
		return reply, key, err
	}
	defer c.Close()
	r.Version, r.Target = pairVersion, address
	return reply, key, c.callOn(ctx, PairSubject, PairSubject, r, &reply)
}

// RotateSubject is where a paired machine tells its next key.
const RotateSubject = "rq.rotate"

// nextKey is what it tells.
type nextKey struct {
	Version int                `json:"version"`
	Next    access.Fingerprint `json:"next"`
}

// ServeRotation takes the next keys of paired machines until stop is called.
func ServeRotation(s Server, h func(ctx context.Context, next access.Fingerprint) error) (stop func(), err error) {
	return s.Handle(RotateSubject, func(ctx context.Context, data []byte) ([]byte, error) {
		return answer(ctx, RotateSubject, func(ctx context.Context, raw json.RawMessage) (any, error) {
			var r nextKey
			if err := json.Unmarshal(raw, &r); err != nil {
				return nil, Errorf(BadRequest, "", "next key: %v", err)
			}
			if r.Version != pairVersion {
				return nil, Errorf(Refused, "upgrade the older machine", "pairing protocol %d, here %d", r.Version, pairVersion)
			}
			return struct{}{}, h(ctx, r.Next)
		}, data), nil
	})
}

// TellNextKey tells a paired machine the next key of the one with this keyring.
func TellNextKey(ctx context.Context, address string, to access.Peer, ring *access.Keyring, next access.Fingerprint) error {
	c, err := Dial(ctx, address, to.Name, Login{Machine: ring, Accept: AcceptKeys(to.Keys...)})
	if err != nil {
		return err
	}
	defer c.Close()
	return c.callOn(ctx, RotateSubject, RotateSubject, nextKey{pairVersion, next}, nil)
}
