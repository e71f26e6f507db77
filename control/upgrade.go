package control

import "time"

// UpgradeRequest: Program takes the daemon's place; empty: the file it was started from.
type UpgradeRequest struct {
	Program string `json:"program,omitempty"`
}

// UpgradeReply is the daemon's before it leaves. The one after it has a later time.
type UpgradeReply struct {
	Started time.Time `json:"started"`
}
