package node

import "understudy/control"

// A target that got another address is told by its name: machine add NAME HOST:PORT.

// address is where the target is reached.
func (c *Connection) address() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.moved != "" {
		return c.moved
	}
	return c.cfg.Address
}

// moveTo has the connection go on at another address, with the same epoch and queue, and
// remembers it.
func (c *Connection) moveTo(addr string) {
	if c.address() == addr {
		return
	}
	c.mu.Lock()
	c.moved = addr
	s := c.session
	c.mu.Unlock()
	c.log.Info("target moved", "address", addr)
	c.store(func(st *storedConnection) { st.Address = addr })
	if s != nil {
		s.link.Move(addr)
	}
}

// moveConnections tells the connections to a machine where it is.
func (n *Node) moveConnections(m control.Machine) {
	n.mu.Lock()
	var list []*Connection
	for _, c := range n.conns {
		if c.cfg.Target == m.Name {
			list = append(list, c)
		}
	}
	n.mu.Unlock()
	for _, c := range list {
		c.moveTo(m.Address)
	}
}
