package failover

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var second4 = Address{Address: "192.0.2.1", IntervalMS: 1000, Missed: 4}

// A second of silence is yellow, four are the end, an answer restarts all.
func TestCountdown(t *testing.T) {
	c := NewCountdown(second4)
	now := time.Duration(0)
	step := func(answered bool) { c.Step(now, Sent, answered); now += c.Pace }
	for range 6 {
		step(false)
	}
	if c.Light() != Caution || c.Left() != 3*time.Second {
		t.Errorf("after 1 s: %s, %v left", c.Light(), c.Left())
	}
	for range 14 {
		step(false)
	}
	if c.Light() != Caution {
		t.Errorf("after 3.8 s: %s", c.Light())
	}
	step(false)
	if c.Light() != Failed || c.Left() != 0 {
		t.Errorf("after 4 s: %s, %v left", c.Light(), c.Left())
	}
	step(true)
	if c.Light() != Online || c.Left() != 4*time.Second {
		t.Errorf("after an answer: %s, %v left", c.Light(), c.Left())
	}
}

// TestLateTimersAreNoSilence: whatever the machine's own stalls, silence never grows by
// more than one pace for each request, nor without one; so fewer than twenty requests
// without an answer never are a failure.
func TestLateTimersAreNoSilence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := NewCountdown(second4)
		now, unanswered := time.Duration(0), 0
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			asked := rapid.IntRange(0, 9).Draw(t, "asked") > 0
			answered := rapid.IntRange(0, 30).Draw(t, "answered") == 0
			c.Step(now, map[bool]Request{false: Unable, true: Sent}[asked], answered)
			switch {
			case answered:
				unanswered = 0
			case asked && i > 0:
				unanswered++
			}
			if c.Light() == Failed && unanswered < 20 {
				t.Fatalf("failed after %d requests", unanswered)
			}
			now += time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(time.Hour)).Draw(t, "stall"))
		}
	})
}

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		trigger string
		lights  []Light
		want    Light
	}{
		{TriggerAll, nil, Online}, {TriggerAny, nil, Online},
		{TriggerAll, []Light{Online, Online}, Online}, {TriggerAll, []Light{Online, Caution}, Caution},
		{TriggerAll, []Light{Online, Failed}, Caution}, {TriggerAll, []Light{Caution, Failed}, Caution}, {TriggerAll, []Light{Failed, Failed}, Failed},
		{TriggerAny, []Light{Online, Failed}, Failed}, {TriggerAny, []Light{Online, Caution}, Caution}, {TriggerAny, []Light{Online, Online}, Online},
	} {
		if got := Decide(c.trigger, c.lights); got != c.want {
			t.Errorf("%s of %v: %s, want %s", c.trigger, c.lights, got, c.want)
		}
	}
}
