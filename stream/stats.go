package stream

import (
	"time"

	"understudy/fileop"
)

// counters are guarded by Journal.mu.
type counters struct {
	ops           uint64
	mirrorRecords uint64
	bytes         uint64
	infoFrame     uint64 // frame stored last when Q was asked for its size
	infoBytes     uint64
	infoFirst     time.Time
}

// JournalStats is a plain copy of a journal's figures.
type JournalStats struct {
	LastOp        fileop.Seq // number of the last operation put
	LastMirror    fileop.Seq
	Stored        fileop.Seq // last operation in Q
	Confirmed     fileop.Seq // last operation the target confirmed durable
	QueuedOps     uint64     // put and not confirmed
	StoredBytes   uint64     // of Q on disk, at most a second old
	MemoryBytes   int64      // put and not yet stored
	TailBytes     int        // stored and kept in memory
	Frames        uint64     // stored so far in this epoch
	ConfirmedTo   uint64     // frame
	Oldest        time.Time  // when the oldest unconfirmed operation was put; zero if there is none
	MirrorBytes   int64      // mirror records under way
	Bytes         uint64     // of queue frames sealed since the start
	Ops           uint64     // put since the start
	MirrorRecords uint64

	DiskLimit   int64 // bytes Q may hold on disk now
	MemoryLimit int64 // bytes that may wait in memory
}

// Stats never waits for the store.
func (j *Journal) Stats() JournalStats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := JournalStats{
		LastOp: j.queue.Next() - 1, LastMirror: j.mirror.Next() - 1, Stored: j.ackedSeq, Confirmed: j.confirmed.Seq,
		StoredBytes: j.counts.infoBytes, MemoryBytes: j.unstored.Load(), TailBytes: j.ackedMem, Frames: j.acked,
		ConfirmedTo: j.confirmed.Frame, MirrorBytes: j.mirBytes,
		Bytes: j.counts.bytes, Ops: j.counts.ops, MirrorRecords: j.counts.mirrorRecords,
		DiskLimit: j.st.mayHold(), MemoryLimit: j.memoryMax.Load(),
	}
	s.QueuedOps = uint64(s.LastOp - s.Confirmed)
	if s.QueuedOps == 0 {
		return s
	}
	if f, ok := j.mem.at(j.confirmed.Frame + 1); ok {
		s.Oldest = f.at
	} else if j.confirmed.Frame+1 > j.acked {
		s.Oldest = j.queueAt
	} else {
		s.Oldest = j.counts.infoFirst
	}
	return s
}
