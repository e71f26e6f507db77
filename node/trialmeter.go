package node

import (
	"time"

	"understudy/control"
)

// What a trial connection measures, as plain values: what would have gone onto the wire,
// and how lines of several bandwidths would have done.

// trialRates are the lines that are compared, in bytes a second: 1 Mbit/s to 10 Gbit/s.
var trialRates = [...]int64{125_000, 1_250_000, 12_500_000, 125_000_000, 1_250_000_000}

// meter counts what one lane sends. The zero value is ready.
type meter struct {
	ops, bytes uint64

	frameAt    time.Time // first record of the frame being built
	frameBytes int
	frameOps   int
}

// Frames as a journal makes them: their end, and what each costs beside its records.
const (
	trialFrameTime  = 2 * time.Millisecond
	trialFrameBytes = 256 << 10
	trialFrameOps   = 1024
	trialOverhead   = 60 + 220 // header; subject, acknowledgement, TCP and IP
)

// add counts a record of n bytes and returns the bytes it adds to the wire.
func (m *meter) add(now time.Time, n int) (wire int) {
	n += 4 // its counter and length
	wire = n
	if m.frameOps == 0 || now.Sub(m.frameAt) > trialFrameTime || m.frameBytes+n > trialFrameBytes || m.frameOps >= trialFrameOps {
		m.frameAt, m.frameBytes, m.frameOps = now, 0, 0
		wire += trialOverhead
	}
	m.frameBytes += n
	m.frameOps++
	m.ops++
	m.bytes += uint64(wire)
	return wire
}

// line is a queue before a line that sends at some rate, beginning empty.
type line struct {
	rate   float64 // bytes a second
	waits  float64 // bytes, as of last
	last   time.Time
	most   float64       // of waits
	longer time.Duration // longest wait
}

func (l *line) add(now time.Time, n int) {
	if gone := now.Sub(l.last).Seconds(); gone > 0 {
		l.waits = max(0, l.waits-gone*l.rate)
		l.last = now
	}
	l.waits += float64(n)
	l.most = max(l.most, l.waits)
	l.longer = max(l.longer, time.Duration(l.waits/l.rate*float64(time.Second)))
}

// peaks are the busiest second and minute.
type peaks struct {
	secs       [60]uint64 // bytes of the last seconds, by second modulo 60
	sum        uint64     // of them
	at         int64      // the last second counted
	second     uint64
	minuteMost uint64
}

func (p *peaks) add(now time.Time, n int) {
	sec := now.Unix()
	for k := max(p.at+1, sec-59); k <= sec; k++ { // seconds that begin
		p.sum -= p.secs[k%60]
		p.secs[k%60] = 0
	}
	p.at = max(p.at, sec)
	p.secs[p.at%60] += uint64(n)
	p.sum += uint64(n)
	p.second = max(p.second, p.secs[p.at%60])
	p.minuteMost = max(p.minuteMost, p.sum)
}

// trialMeter is all of it.
type trialMeter struct {
	since      time.Time
	rep, mir   meter
	lines      [len(trialRates)]line
	busy       peaks
	mirrorDone bool
}

func newTrialMeter(now time.Time) *trialMeter {
	m := &trialMeter{since: now}
	for i := range m.lines {
		m.lines[i] = line{rate: float64(trialRates[i]), last: now}
	}
	return m
}

// change counts a live change.
func (m *trialMeter) change(now time.Time, n int) {
	wire := m.rep.add(now, n)
	m.busy.add(now, wire)
	for i := range m.lines {
		m.lines[i].add(now, wire)
	}
}

// report is what the operator sees.
func (m *trialMeter) report(now time.Time) *control.TrialStats {
	out := &control.TrialStats{Since: m.since.UTC(), MirrorOps: m.mir.ops, MirrorBytes: m.mir.bytes, MirrorDone: m.mirrorDone, RepOps: m.rep.ops, RepBytes: m.rep.bytes,
		PeakSecond: m.busy.second, PeakMinute: float64(m.busy.minuteMost) / 60}
	if d := now.Sub(m.since).Seconds(); d > 0 {
		out.MeanRate = float64(m.rep.bytes) / d
	}
	for i := range m.lines {
		l := &m.lines[i]
		out.Lines = append(out.Lines, control.TrialLine{Rate: trialRates[i], MirrorSeconds: float64(m.mir.bytes) / l.rate,
			QueueBytes: uint64(l.most), LagSeconds: l.longer.Seconds(), Keeps: out.PeakMinute <= l.rate})
	}
	return out
}
