package stream

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"understudy/fileop"
)

// Subjects. A token never holds a dot, so the parts cannot run into each other.
// They are short, because each stored message repeats its own.
//
//	q.<connection>.<epoch>               frames of the source queue, on the source only
//	t.<source>.<connection>.<epoch>      frames to the target queue
//	m.<source>.<connection>.<epoch>      mirror frames
//	rq.last.<source>.<connection>.<epoch> asks how far the target queue reaches
//	rq.<what>.<source>.>, ctl.>          requests of the node above
//	ack.<source>.>, hb.<node>            confirmations and heartbeats of the node above

// Requests of paired machines that are not about one queue; who asks is told by the
// connection.
const (
	JoinSubject   = "rq.join"
	LeaveSubject  = "rq.leave"
	RotateSubject = "rq.rotate"
)

var plainToken = regexp.MustCompile(`^[a-z0-9_-]{1,48}$`)

// Token maps a name to one that is safe as part of a subject and of a file name: names
// of a-z, 0-9, _ and - up to 48 bytes stay as they are, all others become their safe
// letters and a digest, so that different names stay different.
func Token(name string) string {
	if plainToken.MatchString(name) {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return -1
	}, strings.ToLower(name))
	// The digest makes it longer than any plain token, so it cannot equal one.
	return safe[:min(len(safe), 24)] + "-" + hex.EncodeToString(sum[:24])
}

func epochToken(e fileop.Epoch) string { return strconv.FormatUint(uint64(e), 16) }

// The separator of stream names is no letter of a token.
func queueStream(connection string, e fileop.Epoch) string {
	return "Q=" + Token(connection) + "=" + epochToken(e)
}

func queueSubject(connection string, e fileop.Epoch) string {
	return "q." + Token(connection) + "." + epochToken(e)
}

func targetStream(source, connection string, e fileop.Epoch) string {
	return "T=" + Token(source) + "=" + Token(connection) + "=" + epochToken(e)
}

func peerSubject(prefix, source, connection string, e fileop.Epoch) string {
	return prefix + "." + Token(source) + "." + Token(connection) + "." + epochToken(e)
}

func targetSubject(source, connection string, e fileop.Epoch) string {
	return peerSubject("t", source, connection, e)
}

func mirrorSubject(source, connection string, e fileop.Epoch) string {
	return peerSubject("m", source, connection, e)
}

func lastSubject(source, connection string, e fileop.Epoch) string {
	return peerSubject("rq.last", source, connection, e)
}

// AckSubject is where the target publishes confirmations for one connection.
func AckSubject(source, connection string, e fileop.Epoch) string {
	return peerSubject("ack", source, connection, e)
}

// HeartbeatSubject is where a node publishes its heartbeat.
func HeartbeatSubject(node string) string { return "hb." + Token(node) }

// parseStream is the reverse of queueStream and targetStream.
func parseStream(name string) (Stored, error) {
	p := strings.Split(name, "=")
	var st Stored
	switch {
	case len(p) == 3 && p[0] == "Q":
		st.Connection = p[1]
	case len(p) == 4 && p[0] == "T":
		st.Target, st.Source, st.Connection = true, p[1], p[2]
	default:
		return st, fmt.Errorf("%q is not the name of a queue", name)
	}
	e, err := strconv.ParseUint(p[len(p)-1], 16, 64)
	if err != nil {
		return st, fmt.Errorf("epoch of queue %q: %w", name, err)
	}
	st.Epoch, st.name = fileop.Epoch(e), name
	return st, nil
}
