package node

import (
	"testing"
	"time"
)

// TestTrialMeter: frames, the busiest second and minute, and the queue before lines of
// several rates, counted by hand.
func TestTrialMeter(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	m := newTrialMeter(start)
	for i := range 10 { // one frame: 10 records within 1 ms
		m.change(start.Add(time.Duration(i)*100*time.Microsecond), 96)
	}
	if m.rep.bytes != 10*100+trialOverhead || m.rep.ops != 10 {
		t.Fatalf("%+v", m.rep)
	}
	at := start.Add(10 * time.Second)
	m.change(at, 1_000_000-4-trialOverhead) // alone in its frame: 1 MB
	r := m.report(start.Add(20 * time.Second))
	if r.RepBytes != 1_001_280 || r.PeakSecond != 1_000_000 || r.PeakMinute != 1_001_280.0/60 || r.MeanRate != 1_001_280.0/20 {
		t.Errorf("%+v", r)
	}
	slow, fast := r.Lines[0], r.Lines[2]
	if slow.Rate != 125_000 || slow.QueueBytes != 1_000_000 || slow.LagSeconds != 8 || !slow.Keeps || fast.LagSeconds != 0.08 {
		t.Errorf("lines: %+v, %+v", slow, fast)
	}
	for i := range 120 { // 200 kB each second: more than the slowest line sends
		m.change(at.Add(time.Duration(i+1)*time.Second), 200_000-4-trialOverhead)
	}
	m.mir.add(at, 1_250_000-4-trialOverhead)
	r = m.report(at.Add(121 * time.Second))
	slow = r.Lines[0]
	if slow.Keeps || !r.Lines[1].Keeps || slow.QueueBytes != 1_000_000+120*75_000 || slow.LagSeconds != 80 || slow.MirrorSeconds != 10 || r.PeakMinute != (1_000_000+59*200_000)/60.0 {
		t.Errorf("%+v", r)
	}
	m.busy.add(at.Add(time.Hour), 5)
	if m.busy.sum != 5 {
		t.Errorf("%d bytes in the minute after an hour's rest", m.busy.sum)
	}
	m.busy.add(start, 5) // a clock that goes back
	if m.busy.sum != 10 {
		t.Errorf("%d bytes after the clock went back", m.busy.sum)
	}
}
