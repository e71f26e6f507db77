package failpoint

import (
	"maps"
	"slices"
)

// Side is the machine whose process reaches a point.
type Side string

// The sides.
const (
	Source Side = "source"
	Target Side = "target"

	// Failover is the target too, while it takes over or gives back.
	Failover Side = "failover"

	// Restoring is the machine that sends a replica back, Restored the one that gets it.
	Restoring Side = "restoring"
	Restored  Side = "restored"
)

// Point is a moment at which the process can be ended.
type Point string

// The points, in the order in which an operation passes them.
const (
	StoreBefore    Point = "store.before"    // a frame goes to the source queue
	StoreAfter     Point = "store.after"     // it went, its acknowledgement did not come yet
	PublishBefore  Point = "publish.before"  // a frame goes to the target queue
	PublishAfter   Point = "publish.after"   // it went, its acknowledgement did not come yet
	AckBefore      Point = "ack.before"      // the target queue has it, the source has not noted that
	AckAfter       Point = "ack.after"       // it has
	ApplyBefore    Point = "apply.before"    // an operation is about to be executed
	ApplyAfter     Point = "apply.after"     // it was, the position in memory is the one before
	SyncBefore     Point = "sync.before"     // the file systems of the target are about to be synced
	SyncAfter      Point = "sync.after"      // they are, the position is not written
	PositionBefore Point = "position.before" // the position is about to be written
	PositionAfter  Point = "position.after"  // it is, nobody knows
	ConfirmBefore  Point = "confirm.before"  // a durable position is about to be reported
	ConfirmAfter   Point = "confirm.after"   // it is
	PurgeBefore    Point = "purge.before"    // the target queue is about to be trimmed
	PurgeAfter     Point = "purge.after"     // it is
	TrimBefore     Point = "trim.before"     // the source queue is about to be trimmed
	TrimAfter      Point = "trim.after"      // it is
	RewindBefore   Point = "rewind.before"   // a restarted target is about to put names back
	RewindAfter    Point = "rewind.after"    // it did, nothing says so yet
	MirrorBefore   Point = "mirror.before"   // a mirror record is about to be applied
	MirrorAfter    Point = "mirror.after"    // it was

	TakeoverBefore Point = "takeover.before" // a step of a takeover is written down and about to be done
	TakeoverAfter  Point = "takeover.after"  // it was done
	AddressBefore  Point = "address.before"  // an address is written down and about to be added
	AddressAfter   Point = "address.after"   // it was added
	FailbackBefore Point = "failback.before" // a step of a failback is written down and about to be done
	FailbackAfter  Point = "failback.after"  // it was done

	RestoreJoin     Point = "restore.join"     // a restoration is agreed to and about to be written down there
	RestoreJoined   Point = "restore.joined"   // it is
	RestoreAgreed   Point = "restore.agreed"   // the other machine agreed, nothing is written down here
	RestoreNoted    Point = "restore.noted"    // it is
	RestoreMirrored Point = "restore.mirrored" // everything is applied
	RestoreDurable  Point = "restore.durable"  // it is on the other machine's disk
	RestoreSetHome  Point = "restore.set-home" // the replication set is stored there, its answer is not sent
	RestoreEnding   Point = "restore.ending"   // all is done, the connection is about to be ended
	RestoreEnded    Point = "restore.ended"    // it is, nobody was told
)

var points = map[Point]Side{
	StoreBefore: Source, StoreAfter: Source, PublishBefore: Source, PublishAfter: Source, AckBefore: Source, AckAfter: Source,
	TrimBefore: Source, TrimAfter: Source,
	ApplyBefore: Target, ApplyAfter: Target, SyncBefore: Target, SyncAfter: Target, PositionBefore: Target, PositionAfter: Target,
	ConfirmBefore: Target, ConfirmAfter: Target, PurgeBefore: Target, PurgeAfter: Target, RewindBefore: Target, RewindAfter: Target,
	MirrorBefore: Target, MirrorAfter: Target,
	TakeoverBefore: Failover, TakeoverAfter: Failover, AddressBefore: Failover, AddressAfter: Failover,
	FailbackBefore: Failover, FailbackAfter: Failover,
	RestoreJoin: Restored, RestoreJoined: Restored, RestoreSetHome: Restored,
	RestoreAgreed: Restoring, RestoreNoted: Restoring, RestoreMirrored: Restoring, RestoreDurable: Restoring, RestoreEnding: Restoring, RestoreEnded: Restoring,
}

// Points lists all points, sorted.
func Points() []Point { return slices.Sorted(maps.Keys(points)) }

// Side is whose process reaches p.
func (p Point) Side() Side { return points[p] }

// Plant is a mechanism that can be broken on purpose.
type Plant string

// The plants.
const (
	PlantConfirmEarly  Plant = "plant.confirm-early"  // a position is reported before it is durable
	PlantNoIntent      Plant = "plant.no-intent"      // names are changed without a word before
	PlantNoRewind      Plant = "plant.no-rewind"      // a restart leaves names as they are
	PlantNoSave        Plant = "plant.no-save"        // content is not kept for a restart
	PlantSkip          Plant = "plant.skip"           // an operation that cannot be executed is left out
	PlantNoTouched     Plant = "plant.no-touched"     // the target forgets which files are in flight
	PlantNoFlight      Plant = "plant.no-flight"      // files changed in place are not noted on the source
	PlantNoMark        Plant = "plant.no-mark"        // a source believes it knows everything, whatever its clean mark says
	PlantKeepAddresses Plant = "plant.keep-addresses" // a source that is cut off keeps its addresses
	PlantNoChain       Plant = "plant.no-chain"       // a frame that is not the successor is taken
)

// plants says which promise each breaks (docs/guarantees.md).
var plants = map[Plant]string{
	PlantNoTouched: "G23", PlantNoFlight: "G23", PlantNoMark: "G23",
	PlantConfirmEarly: "G7", PlantNoIntent: "G7, G13", PlantNoRewind: "G7", PlantNoSave: "G7",
	PlantSkip: "G11", PlantNoChain: "G6", PlantKeepAddresses: "G40",
}

// Plants lists all plants with the promise each breaks.
func Plants() map[Plant]string { return maps.Clone(plants) }
