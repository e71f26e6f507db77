package stream

import (
	"context"
	"crypto/subtle"
	"errors"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"understudy/internal/access"
)

// innerUser is the login of the node's own connections inside the process.
const innerUser = "node"

// Check is how the messaging server asks who a connection inside the process is: the
// node itself, or a visitor that the door let in. Nobody else can reach it.
func (s *Server) Check(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	if o.Username == innerUser {
		if !same(o.Password, s.pass) {
			return false
		}
		c.RegisterUser(&server.User{Username: innerUser})
		return true
	}
	if s.door == nil {
		return false
	}
	v, ok := s.door.visitorOf(o.Username)
	if !ok || !same(o.Password, v.password) {
		return false
	}
	c.RegisterUser(&server.User{Username: v.session, Permissions: &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: notNone(v.grant.Publish)},
		Subscribe: &server.SubjectPermission{Allow: append(v.grant.Subscribe[:len(v.grant.Subscribe):len(v.grant.Subscribe)], inboxOf(v.session)+".>")},
	}})
	return true
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// notNone is a list that allows nothing where an empty one would allow everything.
func notNone(subjects []string) []string {
	if len(subjects) == 0 {
		return []string{"nothing.at.all"}
	}
	return subjects
}

// Drop ends the sessions of callers that match. What they asked for still runs.
func (s *Server) Drop(match func(access.Caller) bool) {
	if s.door != nil {
		s.door.drop(match)
	}
}

// Callers lists who has a session, once for each.
func (s *Server) Callers() []access.Caller {
	if s.door == nil {
		return nil
	}
	return s.door.callers()
}

// PeerGrant is what a paired machine may do on the machine named node: send frames and
// requests under its own name only, and hear what concerns it. Nothing of JetStream's
// own API: only the machine that holds a stream reads, purges or deletes it.
func PeerGrant(c access.Caller, node string) Grant {
	own := Token(c.Name)
	return Grant{Caller: c,
		Publish:   []string{"t." + own + ".>", "m." + own + ".>", "rq.*." + own + ".>", JoinSubject, LeaveSubject, RotateSubject, "hb." + own},
		Subscribe: []string{"ack." + own + ".>", HeartbeatSubject(node)},
	}
}

// admitPeers is the Admit of a server that was given none: paired machines come in.
func (s *Server) admitPeers(_ context.Context, a access.Attempt) (Grant, error) {
	name, ok := s.cfg.Keys.Meet(a.Key)
	if a.Key.IsZero() || !ok {
		return Grant{}, errors.New("not paired with " + s.cfg.Name)
	}
	return PeerGrant(access.Caller{Kind: access.Machine, Name: name, Key: a.Key}, s.cfg.Name), nil
}

// callerOf finds out who sent a request, by where its answer goes: the screen sees to it
// that this is the sender's own inbox.
func (s *Server) callerOf(reply string) access.Caller {
	rest, ok := strings.CutPrefix(reply, inboxOf(""))
	if ok && s.door != nil {
		session, _, _ := strings.Cut(rest, ".")
		if v, ok := s.door.visitorOf(session); ok {
			return v.grant.Caller
		}
	}
	return access.Caller{Kind: access.Guest}
}
