package event

// The events. Names say what happened; the numbers are promised.
const (
	LinkUp           ID = 73
	QueueRelieved    ID = 79
	ScheduledStart   ID = 81
	ScheduledStop    ID = 82
	ConnectFailed    ID = 76
	LinkLost         ID = 77
	DaemonStarted    ID = 4000
	TargetStarted    ID = 4001
	SourceStarted    ID = 4002
	SourceStopped    ID = 4003
	TargetStopped    ID = 4004
	DaemonStopped    ID = 4005
	DaemonFailed     ID = 4006
	AutoDisconnect   ID = 4007
	AutoDisconnected ID = 4008
	Reconnecting     ID = 4009
	Reconnected      ID = 4010
	NotReconnected   ID = 4011
	TransmitStarted  ID = 4014
	TransmitStopped  ID = 4015
	Connected        ID = 4016
	Disconnected     ID = 4017
	MirrorStarted    ID = 4019
	MirrorPaused     ID = 4020
	MirrorResumed    ID = 4021
	MirrorStopped    ID = 4022
	MirrorCompleted  ID = 4023
	ReplicateStarted ID = 4024
	ReplicateStopped ID = 4025
	TargetPaused     ID = 4026
	TargetResumed    ID = 4027
	LimitChanged     ID = 4063
	TargetState      ID = 4065
	WriteFull        ID = 4110
	WriteBusy        ID = 4111
	WriteDenied      ID = 4112
	WriteFailing     ID = 4113
	WriteCured       ID = 4120
	WriteDropped     ID = 4150
	TaskArrived      ID = 4200
	TaskDropped      ID = 4201
	TaskRuns         ID = 4202
	TaskEnded        ID = 4203
	TaskNotRun       ID = 4204
	TaskTimedOut     ID = 4205
	TaskUnlimited    ID = 4206
	TaskDisabled     ID = 4207
	SessionBroken    ID = 10100

	CaptureOverflow  ID = 20001
	CaptureFailed    ID = 20002
	CaptureBypassed  ID = 20003
	CaptureRestored  ID = 20004
	SourceUnreadable ID = 20005
	RemirrorRequired ID = 20010
	RemirrorDone     ID = 20011
	MirrorRepeated   ID = 20012
	QueueDamaged     ID = 20013
	CleanMarkMissing ID = 20014
	QueueSpaceLow    ID = 20015
	QueueSpaceBack   ID = 20016
	QueueUsage       ID = 20017
	HolderLost       ID = 20020
	HolderBack       ID = 20021
	DaemonResumed    ID = 20022
	TargetChanged    ID = 20030
	NotPermitted     ID = 20031
	OrphansFound     ID = 20032
	MovedAside       ID = 20033
	StateNotWritable ID = 20034
	StateWritable    ID = 20035
	SourceRefused    ID = 20036
	ReplicaFailed    ID = 20037
	HistoryBroken    ID = 20050
	HistoryBack      ID = 20051
	HistoryShort     ID = 20052
	HistoryDropped   ID = 20053
	TaskFailed       ID = 20040
)

const (
	service  = "Service"
	capturer = "Capture"
	target   = "Target"
)

// kinds is the table. docs/operate/events.md is made from it.
var kinds = []Kind{
	{LinkUp, service, Success, "link is up", "connected to %1", []string{"target"}, "", 0},
	{QueueRelieved, service, Success, "queue usage below its threshold", "the queue is used below its threshold again", nil, "", 0},
	{ScheduledStart, service, Info, "scheduled transmission begins", "scheduled transmission to %1 begins: %2", []string{"target", "why"}, "", 0},
	{ScheduledStop, service, Info, "scheduled transmission ends", "scheduled transmission to %1 ends: %2; changes wait in the queue", []string{"target", "why"}, "", 0},
	{ConnectFailed, service, Warning, "connection to target failed", "connection to %1 failed: %2", []string{"target", "err"},
		"check that the target runs, that its address is right, and the network; it is tried again by itself", LinkUp},
	{LinkLost, service, Warning, "link lost", "connection to %1 was lost; changes wait in the queue", []string{"target"},
		"check the network and that the target runs; it is tried again by itself", LinkUp},
	{DaemonStarted, service, Info, "daemon started", "daemon started, version %1", []string{"version"}, "", 0},
	{TargetStarted, service, Info, "target started", "target started", nil, "", 0},
	{SourceStarted, service, Info, "source started", "source started", nil, "", 0},
	{SourceStopped, service, Info, "source stopped", "source stopped", nil, "", 0},
	{TargetStopped, service, Info, "target stopped", "target stopped", nil, "", 0},
	{DaemonStopped, service, Info, "daemon stopped", "daemon stopped", nil, "", 0},
	{DaemonFailed, service, Error, "daemon ended by an error", "daemon ended because of an error: %1", []string{"err"},
		"correct what the error names and start the daemon again", 0},
	{AutoDisconnect, service, Warning, "auto-disconnect", "connection %1 is being disconnected automatically: %2", []string{"con_id", "err", "set", "target"},
		"it reconnects and compares by itself; if this happens often, enlarge the queue or look for the bottleneck", Reconnected},
	{AutoDisconnected, service, Success, "auto-disconnect over", "the automatic disconnect of connection %1 is over", []string{"con_id"}, "", 0},
	{Reconnecting, service, Info, "auto-reconnect begins", "reconnecting replication set %1 to %2", []string{"set", "target"}, "", 0},
	{Reconnected, service, Success, "auto-reconnect worked", "replication set %1 is reconnected to %2", []string{"set", "target"}, "", 0},
	{NotReconnected, service, Error, "auto-reconnect failed", "replication set %1 was not reconnected to %2: %3", []string{"set", "target", "err"},
		"correct what the error names; it is tried again by itself", Reconnected},
	{TransmitStarted, service, Info, "transmission started", "transmission to %1 of replication set %2 goes on", []string{"target", "set"}, "", 0},
	{TransmitStopped, service, Info, "transmission stopped", "transmission to %1 of replication set %2 is paused; changes wait in the queue", []string{"target", "set"},
		"resume it when ready", TransmitStarted},
	{Connected, service, Info, "connection established", "connected to %1, replication set %2, connection %3", []string{"target", "set", "con_id"}, "", 0},
	{Disconnected, service, Info, "connection ended", "disconnected from %1, replication set %2, connection %3", []string{"target", "set", "con_id"}, "", 0},
	{MirrorStarted, service, Info, "mirror started", "mirror to %1 of replication set %2 started on connection %3: %4", []string{"target", "set", "con_id", "mode"}, "", 0},
	{MirrorPaused, service, Info, "mirror paused", "mirror to %1 of replication set %2 paused on connection %3", []string{"target", "set", "con_id"}, "resume it when ready", MirrorResumed},
	{MirrorResumed, service, Info, "mirror resumed", "mirror to %1 of replication set %2 resumed on connection %3", []string{"target", "set", "con_id"}, "", 0},
	{MirrorStopped, service, Info, "mirror stopped", "mirror to %1 of replication set %2 stopped on connection %3: %4", []string{"target", "set", "con_id", "why"}, "start one again if this was not wanted", 0},
	{MirrorCompleted, service, Info, "mirror completed", "mirror to %1 of replication set %2 completed on connection %3", []string{"target", "set", "con_id"}, "", 0},
	{ReplicateStarted, service, Info, "replication started", "replication to %1 of replication set %2 started on connection %3", []string{"target", "set", "con_id"}, "", 0},
	{ReplicateStopped, service, Info, "replication stopped", "replication to %1 of replication set %2 stopped on connection %3", []string{"target", "set", "con_id"}, "", 0},
	{TargetPaused, target, Info, "target paused", "applying what %1 sends is paused; it waits in the target's queue", []string{"source"}, "resume it when ready", TargetResumed},
	{TargetResumed, target, Info, "target resumed", "applying what %1 sends goes on", []string{"source"}, "", 0},
	{LimitChanged, service, Info, "bandwidth limit changed", "the bandwidth limit to %1 is now %2 bytes in %3 (0: none)", []string{"target", "bytes", "period"}, "", 0},
	{TargetState, target, Info, "target state changed", "the data on the target is now: %1 (connection %2)", []string{"state", "con_id"}, "", 0},
	{WriteFull, target, Warning, "target disk full", "target cannot write, its disk is full: %1; tried again until it works", []string{"err"},
		"free space on the target, or add some", WriteCured},
	{WriteBusy, target, Warning, "target file busy", "target cannot write, the file is in use: %1; tried again until it works", []string{"err"},
		"find what holds the file on the target", WriteCured},
	{WriteDenied, target, Warning, "target write denied", "target cannot write, access denied: %1; tried again until it works", []string{"err"},
		"give the daemon's account the rights, or make the file system writable", WriteCured},
	{WriteFailing, target, Warning, "target write failing", "target cannot write: %1; tried again until it works", []string{"err"},
		"look at the target's disk and its log", WriteCured},
	{WriteCured, target, Success, "target writes again", "the write on the target worked after retries", nil, "", 0},
	{WriteDropped, target, Error, "write dropped", "an operation on the target failed after all retries and was dropped: %1: %2", []string{"path", "err"},
		"a mirror heals it; it begins by itself where AutoRemirror is on", 0},
	{TaskArrived, service, Info, "task arrived", "task %1 arrived from %2, queued by %3 at %4", []string{"job", "source", "user", "time"}, "", 0},
	{TaskDropped, service, Warning, "task given up", "task %1 of %2, queued by %3 at %4, went down with its queue before the target confirmed it", []string{"job", "source", "user", "time"},
		"see on the target whether it ran there (status tasks); else submit it again", 0},
	{TaskRuns, service, Info, "task runs", "at point %1 program %2 of task %3 runs", []string{"point", "program", "job"}, "", 0},
	{TaskEnded, service, Info, "task ended", "program %1 ended with exit code %2, task %3 at %4", []string{"program", "exit", "job", "point"}, "", 0},
	{TaskNotRun, service, Error, "task did not run", "program %1 of task %2 did not run to its end: %3", []string{"program", "job", "err"},
		"check path and rights of the program; it is not started again by itself", 0},
	{TaskTimedOut, service, Warning, "task ran too long", "after %1 program %2 of task %3 was ended: its time was over", []string{"time", "program", "job"},
		"raise the task's timeout, or correct the program", 0},
	{TaskUnlimited, service, Warning, "task without a time limit", "program %1 of task %2 has no time limit: the queue waits until it ends", []string{"program", "job"}, "give it a timeout", 0},
	{TaskDisabled, service, Warning, "task commands are switched off", "program %1 of task %2 was not run: task commands are switched off on this machine", []string{"program", "job"},
		"set EnableTaskCmdProcessing to 1 if they are wanted", 0},
	{TaskFailed, service, Warning, "task failed", "program %1 of task %3 ended with exit code %2; what it printed: %4", []string{"program", "exit", "job", "file"},
		"read what it printed; it is not started again by itself", 0},
	{SessionBroken, service, Warning, "connection cut by an error", "replication set %1 to %2 was cut because of an error: %3", []string{"set", "target", "err"},
		"it reconnects and compares by itself; look at the error if it comes back", Reconnected},

	{CaptureOverflow, capturer, Warning, "capture lost events", "the capture of %1 lost events (%2 times so far); everything is looked at again", []string{"dir", "count"},
		"if this happens often, raise fs.inotify.max_queued_events, or capture in write order", 0},
	{CaptureFailed, capturer, Error, "capture stopped", "the capture of %1 stopped: %2", []string{"dir", "err"},
		"correct what the error names; the connection begins anew by itself", CaptureRestored},
	{CaptureBypassed, capturer, Warning, "changes bypassed the capture", "changes below %1 did not come through the capture: %2", []string{"dir", "by"},
		"restart the processes that opened files before the mount; the files are compared by themselves", 0},
	{CaptureRestored, capturer, Success, "capture works", "%1 is captured again", []string{"dir"}, "", 0},
	{SourceUnreadable, capturer, Warning, "source object unreadable", "%1 could not be read for the mirror: %2", []string{"path", "err"},
		"correct rights or the disk, then start a mirror", 0},
	{RemirrorRequired, target, Warning, "remirror required", "the target of connection %1 is not usable without a mirror: %2", []string{"con_id", "why"},
		"a difference mirror begins by itself where AutoRemirror is on; else start one", RemirrorDone},
	{RemirrorDone, target, Success, "target usable again", "the target of connection %1 is usable again", []string{"con_id"}, "", 0},
	{MirrorRepeated, service, Warning, "mirror repeated by differences", "the mirror of connection %1 lost records and is repeated by differences: %2", []string{"con_id", "err"}, "", 0},
	{QueueDamaged, service, Error, "queue damaged", "a queue was found damaged and given up: %1", []string{"err"},
		"everything is compared by itself; look after the disk that holds the queue", 0},
	{CleanMarkMissing, service, Warning, "changes while stopped unknown", "replication set %1 to %2 did not stop in good order last time; everything is compared", []string{"set", "target"}, "", 0},
	{QueueSpaceLow, service, Warning, "queue nearly full", "the queue of connection %1 is full or its disk is short of space: %2", []string{"con_id", "err"},
		"free space on the queue's disk, or raise the queue's limit", QueueSpaceBack},
	{QueueSpaceBack, service, Success, "queue has space", "the queue of connection %1 has space again", []string{"con_id"}, "", 0},
	{QueueUsage, service, Warning, "queue usage over its threshold", "the %1 is used by %2 %%, the threshold is %3 %%", []string{"queue", "percent", "threshold"},
		"see why it is not emptied (status); a source queue that is full ends its connection, which then compares", QueueRelieved},
	{HolderLost, capturer, Warning, "holder lost", "the process that keeps the captured session of %1 is gone; a killed daemon would end the mount", []string{"dir"},
		"it is started again by itself; look why it ended", HolderBack},
	{HolderBack, capturer, Success, "holder runs", "the process that keeps the captured session of %1 runs again", []string{"dir"}, "", 0},
	{DaemonResumed, capturer, Info, "capture session resumed", "the captured session of %1 was resumed; applications only waited", []string{"dir"}, "", 0},
	{TargetChanged, target, Warning, "target changed by others", "somebody else changed the replica: %1", []string{"path"},
		"find who writes there; a mirror heals it", 0},
	{NotPermitted, target, Info, "attributes not permitted", "owners or attributes could not be set on the target: %1", []string{"err"},
		"run the target as root on a file system that keeps them", 0},
	{OrphansFound, target, Info, "orphans found", "the mirror found %1 orphans on the target", []string{"count"}, "list or remove them", 0},
	{MovedAside, target, Info, "leftover moved aside", "a name that was in the way was moved aside on the target: %1", []string{"path"}, "look at it and remove it", 0},
	{StateNotWritable, target, Error, "state directory not writable", "the target's state directory cannot be written: %1", []string{"err"},
		"free space or repair the disk of the data directory", StateWritable},
	{StateWritable, target, Success, "state directory writable", "the target's state directory can be written again", nil, "", 0},
	{SourceRefused, target, Warning, "source refused", "source %1 was refused: %2", []string{"source", "err"}, "correct what the error names", 0},
	{HistoryBroken, target, Warning, "history interrupted", "what is applied of %1 is not kept as history now: %2", []string{"source", "err"},
		"correct what the error names; a further base is made by itself, and what was kept before stays", HistoryBack},
	{HistoryBack, target, Success, "history kept again", "the history is kept again", nil, "", 0},
	{HistoryShort, target, Warning, "history shortened", "the history of %1 is shorter than it is set to be: %2", []string{"source", "err"},
		"free space on the disk of the histories, or set History to less", HistoryBack},
	{HistoryDropped, target, Error, "history dropped", "the history of %1 was deleted, the disk is needed: %2", []string{"source", "err"},
		"free space on the disk of the histories; a new base is then made by itself", 0},
	{ReplicaFailed, target, Error, "replica failed", "the replica of %1 cannot go on: %2", []string{"source", "err"},
		"the source begins anew and compares by itself; look at the error if it comes back", 0},
}
