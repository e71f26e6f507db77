package node

import (
	"testing"

	"understudy/fileop"
	"understudy/mirror"
)

// TestRepeatedMirrorKeepsItsDoubts: a mirror that is repeated because records were lost
// doubts what the lost one was to doubt.
func TestRepeatedMirrorKeepsItsDoubts(t *testing.T) {
	since := fileop.Time{Sec: 1_700_000_000}
	for name, c := range map[string]struct {
		lost     mirror.Options
		wasEmpty bool
		want     mirror.Options
	}{
		"all by checksum":    {lost: mirror.Options{Mode: mirror.Diff, Checksum: true, ChecksumAll: true}, want: mirror.Options{Mode: mirror.Diff, Checksum: true, ChecksumAll: true}},
		"since":              {lost: mirror.Options{Mode: mirror.Diff, Checksum: true, Since: since}, want: mirror.Options{Mode: mirror.Diff, Checksum: true, Since: since}},
		"since, empty":       {lost: mirror.Options{Mode: mirror.Diff, Checksum: true, Since: since}, wasEmpty: true, want: mirror.Options{Mode: mirror.Diff, Checksum: true, Since: since}},
		"newer":              {lost: mirror.Options{Mode: mirror.Diff, Newer: true}, want: mirror.Options{Mode: mirror.Diff, Newer: true}},
		"full":               {lost: mirror.Options{Mode: mirror.Full}, want: mirror.Options{Mode: mirror.Diff, Checksum: true, ChecksumAll: true}},
		"full, first of all": {lost: mirror.Options{Mode: mirror.Full}, wasEmpty: true, want: mirror.Options{Mode: mirror.Diff, Checksum: true}},
	} {
		if got := repeated(c.lost, c.wasEmpty); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// TestHealingLeavesOrders: a healing mirror never takes the place of one that was asked
// for, and is not forgotten behind one that leaves differences.
func TestHealingLeavesOrders(t *testing.T) {
	all := mirror.Options{Mode: mirror.Diff, Checksum: true, ChecksumAll: true}
	newer := mirror.Options{Mode: mirror.Diff, Newer: true}
	full := mirror.Options{Mode: mirror.Full}
	for name, c := range map[string]struct {
		do   func(q *orders)
		want []mirror.Options
	}{
		"healing alone":        {func(q *orders) { q.putHeal(); q.putHeal() }, []mirror.Options{healing}},
		"healing behind all":   {func(q *orders) { q.put(all); q.putHeal() }, []mirror.Options{all}},
		"all behind healing":   {func(q *orders) { q.putHeal(); q.put(all) }, []mirror.Options{all}},
		"healing behind newer": {func(q *orders) { q.put(newer); q.putHeal() }, []mirror.Options{newer, healing}},
		"newer behind healing": {func(q *orders) { q.putHeal(); q.put(newer) }, []mirror.Options{newer, healing}},
		"the last asked for":   {func(q *orders) { q.put(full); q.put(all) }, []mirror.Options{all}},
	} {
		q := newOrders(true)
		c.do(q)
		for _, want := range c.want {
			if got, ok := q.take(); !ok || got != want {
				t.Errorf("%s: %+v %v, want %+v", name, got, ok, want)
			}
			if !q.busy() {
				t.Errorf("%s: not busy while a mirror runs", name)
			}
			q.done()
		}
		if got, ok := q.take(); ok || q.busy() {
			t.Errorf("%s: %+v is left", name, got)
		}
	}
}
