package stream

import "errors"

// errHeld ends an attempt to connect while the link is held.
var errHeld = errors.New("link is held closed")

// Hold closes both connections and keeps them closed until Release: the link is down and
// nothing is dialled. What was on its way is lost, as by a cut.
func (l *Link) Hold() {
	l.mu.Lock()
	was, heard := l.held, l.heard
	l.held = true
	l.mu.Unlock()
	if was {
		return
	}
	for _, h := range heard {
		if h != nil {
			_ = h.Close() // it may be closed already
		}
	}
}

// Release ends Hold; the link comes up by itself.
func (l *Link) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = false
}

// Held reports whether the link is held closed.
func (l *Link) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held
}
