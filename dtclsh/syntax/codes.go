package syntax

import "strconv"

// Code is what a failing statement returns: a negative number scripts test.
type Code int

// The codes this version gives by name; Texts has them all.
const (
	Failed          Code = -1
	BadParameter    Code = -101
	BadSyntax       Code = -102
	SourceNotLoaded Code = -103
	NoSource        Code = -104
	TargetNotLoaded Code = -105
	ConExists       Code = -106
	NoCon           Code = -107
	MirrorBusy      Code = -108
	NoMachine       Code = -109
	NoAnswer        Code = -110
	ConFailed       Code = -112
	MirrorActive    Code = -113
	BadDate         Code = -114
	BadTime         Code = -115
	BadOption       Code = -116
	MirrorNotPaused Code = -117
	NotPaused       Code = -118
	NotConnected    Code = -119
	NoMirror        Code = -121
	SetExists       Code = -122
	NoSet           Code = -123
	NoSetChosen     Code = -124
	Replicating     Code = -125
	NotReplicating  Code = -126
	SetConnected    Code = -127
	SetUnsaved      Code = -129
	SetInUse        Code = -130
	NoTarget        Code = -131
	BadValue        Code = -135
	NoRule          Code = -136
	LevelTooLow     Code = -138
	BadSchedule     Code = -139
	BadPath         Code = -140
	SetUnchanged    Code = -141
	SetNotSaved     Code = -144
	CannotConnect   Code = -145
	NotThisOne      Code = -155
	MonitorExists   Code = -201
	NoSuchMonitor   Code = -202
	MonitorInUse    Code = -205
	NoMonitor       Code = -206
	SourceOnline    Code = -207
	NotFailedOver   Code = -209
	IsFailedOver    Code = -210
	NotMonitored    Code = -211
	NoNIC           Code = -214
)

// Texts says what each code means. The numbers are the language's, the words ours.
var Texts = map[Code]string{
	-1:   "failure without a code of its own",
	-101: "bad parameter in the statement",
	-102: "unknown command or bad syntax",
	-103: "no source module loaded on that machine",
	-104: "no source chosen yet",
	-105: "no target module loaded on that machine",
	-106: "this connection exists already",
	-107: "no such connection",
	-108: "a mirror is in progress",
	-109: "machine unknown",
	-110: "machine does not answer",
	-111: "runs there already",
	-112: "connection failed",
	-113: "mirror active already",
	-114: "bad date, want mm/dd/yy",
	-115: "bad time, want hh:mm",
	-116: "bad option",
	-117: "mirror is not paused",
	-118: "transmission is not paused",
	-119: "not connected",
	-120: "connected already",
	-121: "no mirror running",
	-122: "replication set exists already",
	-123: "replication set does not exist",
	-124: "no replication set selected",
	-125: "replicating already",
	-126: "not replicating",
	-127: "replication set is connected",
	-128: "no schedule defined",
	-129: "replication set has unsaved changes",
	-130: "replication set is in use",
	-131: "no target chosen yet",
	-132: "memory is low",
	-133: "memory is sufficient again",
	-134: "replication is pending",
	-135: "bad value of an option",
	-136: "replication set rule does not exist",
	-137: "mirror queue is full",
	-138: "access level too low",
	-139: "bad schedule command",
	-140: "bad source path",
	-141: "replication set has no changes",
	-142: "access level on the source too low",
	-143: "bad statistics file",
	-144: "replication set is not saved",
	-145: "connecting failed",
	-146: "orphan removal is not enabled",
	-147: "target mirror capacity: high mark reached",
	-148: "target mirror capacity: back under the low mark",
	-149: "new option value in force",
	-150: "target was restarted",
	-151: "replication ran out of memory",
	-152: "writing to the volume is blocked",
	-153: "transmission is paused",
	-154: "transmission is active",
	-155: "this version does not know the command",
	-156: "command could not be converted for another version",
	-157: "versions of source and target do not fit",
	-158: "operating systems of source and target do not fit",
	-201: "monitor exists already",
	-202: "monitor does not exist",
	-203: "monitor set exists already",
	-204: "monitor set does not exist",
	-205: "monitor set is in use already",
	-206: "monitor to be used does not exist",
	-207: "source is online",
	-208: "source is offline",
	-209: "machine is not failed over",
	-210: "machine is failed over",
	-211: "machine is not monitored",
	-212: "failback is in progress",
	-213: "no address placeholder left on the target",
	-214: "target network card not found",
	-215: "source module not loaded",
	-216: "state of the source could not be set",
	-217: "source cannot be pinged",
	-218: "bad argument",
	-219: "recovery is busy",
	-220: "bad command",
	-221: "recovery has started",
	-222: "script could not be started",
	-223: "script ran into its timeout",
}

func (c Code) String() string {
	if s, ok := Texts[c]; ok {
		return s
	}
	return "code " + strconv.Itoa(int(c))
}
