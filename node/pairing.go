package node

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"understudy/control"
	"understudy/internal/access"
)

// Pairing of machines, and the change of this machine's key.

// PairUp makes two running nodes of one process known to each other, without a code.
func PairUp(a, b *Node) error { return access.PairUp(a.keys, b.keys, a.Addr(), b.Addr()) }

func (n *Node) invite(_ context.Context, r control.InviteRequest) (any, error) {
	valid := time.Duration(r.ValidMS) * time.Millisecond
	if valid == 0 {
		valid = access.DefaultValid
	}
	code, err := n.gate.invites.Make(n.keys.Key(), valid)
	if err != nil {
		return nil, control.Errorf(control.Refused, "", "%v", err)
	}
	n.log.Info("invitation made", "valid", valid)
	return control.InviteReply{Code: code.String()}, nil
}

// joinPeer pairs this machine with the one that made a code.
func (n *Node) joinPeer(ctx context.Context, r control.JoinRequest) (any, error) {
	code, err := access.ParseCode(r.Code)
	if err != nil {
		return nil, control.Errorf(control.BadRequest, "make one with: understudy pair invite, on the other machine", "%v", err)
	}
	if code.Fits(n.keys.Key()) {
		return nil, control.Errorf(control.BadRequest, "give the code to the other machine: understudy pair join ADDRESS CODE", "this code was made here")
	}
	address := withPort(r.Address)
	own := r.Own
	if own == "" {
		own = n.addressTo(address)
	}
	reply, key, err := control.Join(ctx, address, code, n.keys, control.PairRequest{Name: n.cfg.Name, Address: own})
	if err != nil {
		return nil, err
	}
	if !nodeName.MatchString(reply.Name) {
		return nil, control.Errorf(control.Internal, "", "the other machine calls itself %.80q", reply.Name)
	}
	if err := n.newPeer(reply.Name, address, key); err != nil {
		return nil, err
	}
	return n.peerInfo(reply.Name), nil
}

// invited takes the request of a machine that said the secret of a code.
func (n *Node) invited(ctx context.Context, r control.PairRequest) (control.PairReply, error) {
	c := access.CallerOf(ctx)
	if c.Kind != access.Invited {
		return control.PairReply{}, control.Errorf(control.Denied, "", "%s is not invited", c)
	}
	if !nodeName.MatchString(r.Name) {
		return control.PairReply{}, control.Errorf(control.BadRequest, "letters, digits, - and _, at most 63", "%.80q cannot be the name of a machine", r.Name)
	}
	if strings.EqualFold(r.Name, n.cfg.Name) {
		return control.PairReply{}, control.Errorf(control.Refused, "give one of them another name, with --name or in its settings", "both machines are called %s", n.cfg.Name)
	}
	if _, _, err := net.SplitHostPort(r.Address); err != nil {
		r.Address = ""
	}
	if err := n.gate.invites.Complete(c.Key); err != nil {
		return control.PairReply{}, control.Errorf(control.Denied, "make a new code with: understudy pair invite", "%v", err)
	}
	if err := n.newPeer(r.Name, r.Address, c.Key); err != nil {
		return control.PairReply{}, err
	}
	return control.PairReply{Name: n.cfg.Name, Address: r.Target}, nil
}

// newPeer notes down a machine that proved its key.
func (n *Node) newPeer(name, address string, key access.Fingerprint) error {
	err := n.keys.AddPeer(name, address, key)
	switch {
	case errors.Is(err, access.ErrNameTaken):
		return control.Errorf(control.Exists, "if the other machine has a new key for a reason you know, run: understudy pair remove "+name, "%v", err)
	case errors.Is(err, access.ErrExists), errors.Is(err, access.ErrFull):
		return control.Errorf(control.Refused, "", "%v", err)
	case err != nil:
		return err
	}
	if address != "" {
		if _, err := n.addMachine(n.ctx, control.Machine{Name: name, Address: address}); err != nil {
			n.log.Warn("machine not remembered", "machine", name, "err", err)
		}
	}
	n.log.Info("paired", "machine", name, "address", address, "key", key.Short())
	return nil
}

// removePeer ends a pairing: sessions of the machine here and ours there end at once.
func (n *Node) removePeer(_ context.Context, r control.NameRequest) (any, error) {
	if err := n.keys.RemovePeer(r.Name); errors.Is(err, access.ErrUnknown) {
		return nil, control.Errorf(control.NotFound, "see: understudy pair list", "not paired with %s", r.Name)
	} else if err != nil {
		return nil, err
	}
	n.srv.Drop(func(c access.Caller) bool {
		return c.Kind == access.Machine && strings.EqualFold(c.Name, r.Name)
	})
	err := n.state.update(func(d *stateData) {
		if name, ok := matchMachine(d.Machines, r.Name); ok {
			delete(d.Machines, name)
		}
	})
	n.log.Warn("pairing removed", "machine", r.Name)
	return nothing{}, err
}

func (n *Node) listPeers(context.Context, nothing) (any, error) {
	out := control.PeerList{Name: n.cfg.Name, Key: n.keys.Key().String(), Peers: []control.PeerInfo{}}
	next, _ := n.keys.Rotating()
	if !next.IsZero() {
		out.Rotating = next.String()
	}
	for _, p := range n.keys.Peers() {
		out.Peers = append(out.Peers, infoOf(p, !next.IsZero()))
	}
	return out, nil
}

func infoOf(p access.Peer, rotating bool) control.PeerInfo {
	info := control.PeerInfo{Name: p.Name, Address: p.Address, Paired: p.Paired.Format(time.RFC3339), Waiting: rotating && !p.Told}
	for _, k := range p.Keys {
		info.Keys = append(info.Keys, k.String())
	}
	return info
}

func (n *Node) peerInfo(name string) control.PeerInfo {
	peers := n.keys.Peers()
	if i := slices.IndexFunc(peers, func(p access.Peer) bool { return strings.EqualFold(p.Name, name) }); i >= 0 {
		return infoOf(peers[i], false)
	}
	return control.PeerInfo{}
}

// rotate begins to change the key of this machine, and ends it if every paired machine
// could be told; else it goes on by itself until they are.
func (n *Node) rotate(ctx context.Context, r control.RotateRequest) (any, error) {
	if _, err := n.keys.BeginRotation(); err != nil {
		return nil, err
	}
	if err := n.writeLocal(); err != nil {
		return nil, err
	}
	n.goOnRotating(ctx)
	if r.Force {
		if err := n.finishRotation(true); err != nil {
			return nil, err
		}
	}
	return n.listPeers(ctx, nothing{})
}

// tellTimeout bounds the telling of one machine.
const tellTimeout = 5 * time.Second

// goOnRotating tells the machines that do not know the next key, and changes to it when
// all do.
func (n *Node) goOnRotating(ctx context.Context) {
	n.rotating.Lock()
	defer n.rotating.Unlock()
	next, waiting := n.keys.Rotating()
	for _, p := range waiting {
		err := n.tell(ctx, p, next)
		if err == nil {
			err = n.keys.PeerTold(p.Name, next)
		}
		if err != nil {
			n.log.Warn("machine not told the next key", "machine", p.Name, "err", err)
		}
	}
	if err := n.finishRotation(false); err != nil {
		n.log.Error("key not changed", "err", err)
	}
}

func (n *Node) tell(ctx context.Context, p access.Peer, next access.Fingerprint) error {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	address := p.Address
	n.state.read(func(d *stateData) {
		if name, ok := matchMachine(d.Machines, p.Name); ok {
			address = d.Machines[name]
		}
	})
	if address == "" {
		return errors.New("no address is known")
	}
	return control.TellNextKey(ctx, address, p, n.keys, next)
}

func (n *Node) finishRotation(force bool) error {
	done, err := n.keys.FinishRotation(force)
	if !done || err != nil {
		return err
	}
	n.log.Info("key changed", "key", n.keys.Key().Short())
	return n.writeLocal()
}

// peerRotates notes the next key of a paired machine.
func (n *Node) peerRotates(ctx context.Context, next access.Fingerprint) error {
	c := access.CallerOf(ctx)
	if c.Kind != access.Machine {
		return control.Errorf(control.Denied, "", "%s is no paired machine", c)
	}
	if err := n.keys.PeerChanges(c.Name, c.Key, next); err != nil {
		return control.Errorf(control.Refused, "", "%v", err)
	}
	n.log.Info("machine changes its key", "machine", c.Name, "next", next.Short())
	return nil
}

// addressTo is where a machine at address reaches this one; "" if it cannot.
func (n *Node) addressTo(address string) string {
	conn, err := net.Dial("udp", address) // sends nothing; it asks for the route
	if err != nil {
		return ""
	}
	defer conn.Close()
	here, _, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return ""
	}
	own := addressFor(n.Addr(), here)
	if isLoopback(own) && !isLoopback(address) {
		return ""
	}
	return own
}

// addressFor is a listening address as it can be dialled: here stands for all addresses
// of the machine.
func addressFor(listen, here string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort(here, port)
	}
	return listen
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
