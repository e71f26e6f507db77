package event

// Events of monitors, takeover and failback.
const (
	FailoverDecide    ID = 100
	FailoverBegins    ID = 101
	MonitorsStarted   ID = 5000
	FailoverDone      ID = 5100
	AddressAdded      ID = 5101
	DecisionAwaited   ID = 5102
	ScriptStarted     ID = 5105
	ScriptEnded       ID = 5106
	ScriptFailed      ID = 5107
	SourceSilent      ID = 5108
	SourceFailed      ID = 5109
	FailbackDone      ID = 5200
	AddressRemoved    ID = 5201
	AddressKept       ID = 5202
	AddressWatched    ID = 5300
	AddressUnwatched  ID = 5301
	AddressAnnounced  ID = 5400
	FailoverStep      ID = 20100
	FailoverTrouble   ID = 20101
	FailoverErrors    ID = 20102
	AddressConflict   ID = 20103
	AddressContested  ID = 20104
	AddressNotAdded   ID = 20105
	TargetIsolated    ID = 20106
	MonitorUnreadable ID = 20107
	SourceAnswers     ID = 20108
	AddressUndisputed ID = 20109
	TargetReached     ID = 20110
	DecisionMade      ID = 20111
	OwnAddressTaken   ID = 20112
	OwnAddressFree    ID = 20114
	RestoreRequired   ID = 4018
	RestoreDone       ID = 20113
	AddressesGivenUp  ID = 20115
	AddressesBack     ID = 20116
	AddressUnasked    ID = 20117
	AddressAsked      ID = 20118
	FailoverComplete  ID = 700001
)

const (
	failing = "Failover"
	back    = "Failback"
	monitor = "Monitor"
)

// failoverKinds is their part of the table.
var failoverKinds = []Kind{
	{FailoverBegins, failing, Warning, "failover begins", "failover of %1 begins", []string{"source"}, "", 0},
	{FailoverDone, failing, Warning, "failover done", "failover of %1 is done; this machine stands in for it", []string{"source"},
		"repair the source off the network, then fail back; see docs/operate/failover.md", 0},
	{FailoverComplete, failing, Info, "failover complete", "failover complete for %1", []string{"source"}, "", 0},
	{AddressAdded, failing, Info, "address taken over", "address %1/%2 was added to %3", []string{"address", "bits", "adapter"}, "", 0},
	{DecisionAwaited, failing, Error, "failover waits for a decision", "%1 has failed and a person has to decide: %2", []string{"source", "why"},
		"failover SOURCE takes over, failover SOURCE decline does not; see docs/operate/failover.md", DecisionMade},
	{DecisionMade, failing, Success, "failover decided", "no decision about failover of %1 is awaited any more", []string{"source"}, "", 0},
	{ScriptStarted, failing, Info, "script starts", "script %1 starts: %2", []string{"step", "path"}, "", 0},
	{ScriptEnded, failing, Info, "script ended well", "script %1 ended well: %2", []string{"step", "output"}, "", 0},
	{ScriptFailed, failing, Error, "script failed", "script %1 failed: %2: %3", []string{"step", "err", "output"}, "check existence, path and exit status; run it by hand", 0},
	{SourceSilent, failing, Warning, "source silent", "%1 does not answer", []string{"source"}, "look after the source and the network", SourceAnswers},
	{SourceAnswers, failing, Success, "source answers", "%1 answers again", []string{"source"}, "", 0},
	{SourceFailed, failing, Error, "source failed", "%1 has failed: nothing answered during its time to fail", []string{"source"}, "look after the source and the network", 0},
	{FailbackDone, back, Info, "failback done", "failback of %1 is done", []string{"source"}, "", 0},
	{AddressRemoved, back, Info, "address given back", "address %1 was removed from %2", []string{"address", "adapter"}, "", 0},
	{AddressKept, back, Error, "address not removed", "address %1 could not be removed: %2", []string{"address", "err"}, "remove it by hand: ip addr del", 0},
	{AddressWatched, monitor, Info, "address watched", "address %1 is on the watch list", []string{"address"}, "", 0},
	{AddressUnwatched, monitor, Info, "address not watched", "address %1 is off the watch list", []string{"address"}, "", 0},
	{AddressAnnounced, failing, Info, "address announced", "hardware address %1 was broadcast for %2", []string{"mac", "address"}, "", 0},
	{FailoverStep, failing, Info, "failover step", "failover of %1, step %2: %3", []string{"source", "step", "text"}, "", 0},
	{FailoverTrouble, failing, Error, "failover step failed", "failover of %1, step %2 went wrong; the rest goes on: %3", []string{"source", "step", "err"},
		"do by hand what the step should have done", 0},
	{FailoverErrors, failing, Error, "failed over with errors", "failover of %1 is done with %2 errors", []string{"source", "count"}, "see: monitor display; do by hand what is missing", 0},
	{AddressConflict, failing, Warning, "address answered by another", "address %1 is still answered for, by %2", []string{"address", "mac"},
		"take that machine off the network; force takes over all the same", 0},
	{AddressContested, failing, Error, "taken address contested", "address %1, which this machine took over, is answered for by %2 too", []string{"address", "mac"},
		"take the returned source off the network, or fail back", AddressUndisputed},
	{AddressUndisputed, failing, Success, "taken address undisputed", "nobody else answers for %1 any more", []string{"address"}, "", 0},
	{AddressNotAdded, failing, Error, "address not added", "address %1 could not be added: %2", []string{"address", "err"}, "add it by hand: ip addr add", 0},
	{TargetIsolated, failing, Error, "target cut off", "%1 does not answer, and no failover is begun: %2", []string{"source", "why"},
		"look after the network of this machine; it goes on by itself", TargetReached},
	{TargetReached, failing, Success, "target reached", "the network of this machine is no reason to wait about %1 any more", []string{"source"}, "", 0},
	{AddressUnasked, failing, Error, "source not asked", "this machine cannot ask whether %1 lives, at %2", []string{"source", "addresses"},
		"look after this machine's routes, network cards and packet filter; until then nobody watches these addresses", AddressAsked},
	{AddressAsked, failing, Success, "source asked again", "this machine can ask again whether %1 lives", []string{"source"}, "", 0},
	{MonitorUnreadable, monitor, Error, "monitor unreadable", "a stored monitor cannot be read and does not work: %1", []string{"err"},
		"put back a copy, or remove the file and make the monitor anew", 0},
	{OwnAddressTaken, monitor, Error, "own address taken", "address %1 of this machine is answered for by %2", []string{"address", "mac"},
		"a target may stand in for this machine: disconnect it from the network and fail back first", OwnAddressFree},
	{OwnAddressFree, monitor, Success, "own address free", "nobody else answers for %1 any more", []string{"address"}, "", 0},
	{AddressesGivenUp, monitor, Error, "own addresses given up", "this machine has given up %1: %2", []string{"addresses", "why"},
		"repair its network; it has them again by itself once nobody else answers for them; understudy lease release has them at once", AddressesBack},
	{AddressesBack, monitor, Success, "own addresses back", "this machine has its addresses again (%1)", []string{"addresses"}, "", 0},
	{RestoreRequired, service, Warning, "restore required", "%1 stood in for this machine: replication set %2 is not replicated: %3", []string{"target", "set", "why"},
		"restore from the target, or give up what changed there: failback, discard", RestoreDone},
	{RestoreDone, service, Success, "replicating again", "%1 takes replication set %2 again", []string{"target", "set"}, "", 0},
}
