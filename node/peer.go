package node

import (
	"encoding/json"
	"fmt"

	"understudy/event"
	"understudy/fileop"
	"understudy/stream"
)

// The peer protocol: what a source asks its target, over the target's server. Bulk
// data is package stream's; here are the few requests around it.

// peerVersion is raised when an older peer would misunderstand a request.
const peerVersion = 1

// joinRequest opens or resumes a connection's epoch on the target.
type joinRequest struct {
	Version int      `json:"version"`
	Target  string   `json:"target"` // whom the source means to reach
	Info    joinInfo `json:"info"`
	Adopt   bool     `json:"adopt"` // the target directories may hold files that are not ours
	// AbortTo says, when an epoch is resumed, that mirror records up to it may be lost.
	AbortTo fileop.Seq `json:"abort_to"`
}

// joinInfo is what the target remembers of a connection.
type joinInfo struct {
	Source     string       `json:"source"`
	Connection string       `json:"connection"` // the connection's key
	Set        string       `json:"set"`
	Epoch      fileop.Epoch `json:"epoch"`
	Roots      []joinRoot   `json:"roots"`
	// Since is the target's own: when the replica's directories became this connection's,
	// in nanoseconds since 1970.
	Since int64 `json:"since,omitempty"`
	// Restore: the source sends back what it holds of this machine, once.
	Restore bool `json:"restore,omitempty"`
	// History is how much of the replica's past the target is to keep; "": what it keeps of all.
	History string `json:"history,omitempty"`
	// Ordered: the source captures in write order, so that the replica can be sent on in it.
	Ordered bool `json:"ordered,omitempty"`
}

// joinRoot is one root directory of the set and where it goes.
type joinRoot struct {
	Tree uint32       `json:"tree"`
	Obj  fileop.ObjID `json:"obj"`
	From string       `json:"from"`
	Path string       `json:"path"`
}

// joinReply tells where to go on.
type joinReply struct {
	Session string `json:"session"` // changes with every start of the target's half
	// MirrorApplied is the last mirror record applied; what was sent after it and before
	// the link broke may be lost.
	MirrorApplied uint64 `json:"mirror_applied"`
	// Joins counts the times mirror records were given up as this half was joined again.
	// Reports carry it: they count as applied from then on.
	Joins uint64 `json:"joins,omitempty"`
	Since int64  `json:"since,omitempty"` // joinInfo.Since
	Code  string `json:"code,omitempty"`
	Msg   string `json:"msg,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// leaveRequest ends a connection; the replica's files stay.
type leaveRequest struct {
	Source     string `json:"source"`
	Connection string `json:"connection"`
}

// ack is the target's report, published when something changed, at most every
// ackEvery.
type ack struct {
	Session       string       `json:"session"`
	Epoch         fileop.Epoch `json:"epoch"`
	Joins         uint64       `json:"joins,omitempty"` // as in joinReply
	Applied       fileop.Seq   `json:"applied"`
	DurableFrame  uint64       `json:"durable_frame"`
	DurableOp     fileop.Seq   `json:"durable_op"` // last of that frame
	MirrorApplied fileop.Seq   `json:"mirror_applied"`
	DurableMirror fileop.Seq   `json:"durable_mirror"`
	MirrorLost    uint64       `json:"mirror_lost"` // times mirror records were missing
	Usable        bool         `json:"usable"`
	Remirror      bool         `json:"remirror"`        // only a further mirror makes it usable
	Doubt         bool         `json:"doubt,omitempty"` // equal date and size prove nothing
	State         string       `json:"state"`
	Broken        string       `json:"broken,omitempty"` // the stream cannot go on; a new epoch is needed
	Err           string       `json:"err,omitempty"`
	Alert         event.ID     `json:"alert,omitempty"`   // what holds up the applier; 0: nothing
	NoPast        string       `json:"no_past,omitempty"` // why nothing is kept of the history although it should be
}

// key names a replica on the target.
func (j *joinInfo) key() string { return j.Source + "." + j.Connection }

// Subjects of the requests about one connection; a peer may publish below its own only.
func listSubject(source, conn string) string {
	return "rq.list." + stream.Token(source) + "." + stream.Token(conn)
}

func digestSubject(source, conn string) string {
	return "rq.digests." + stream.Token(source) + "." + stream.Token(conn)
}

func decodeJSON(data []byte, into any, what string) error {
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
