package main

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// bound is what a figure must reach and what we want it to reach. Zero: not asked.
type bound struct {
	must, goal float64
	atLeast    bool // else at most
	onRatio    bool // judged is the ratio, else the figure itself
}

// figure is one line of the table.
type figure struct {
	name      string
	value     float64
	unit      string
	reference string  // what it is compared with, with its figure
	ratio     float64 // 0: none
	bound     bound
	note      string
}

// table collects figures.
type table struct {
	lines []figure
	notes []string
	load  []string // averages, before and after each row
}

func (t *table) add(f figure) { t.lines = append(t.lines, f) }

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

func (t *table) failed(row string, err error) {
	first, _, _ := strings.Cut(err.Error(), "\n")
	t.add(figure{name: row, value: math.NaN(), note: "FAILED: " + first})
}

func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "\n%d cores, load average along the way: %s\n\n", runtime.NumCPU(), strings.Join(t.load, " "))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "ROW\tMEASURED\tREFERENCE\tRATIO\tMUST\tGOAL\tVERDICT")
	for _, f := range t.lines {
		ratio := ""
		if f.ratio != 0 {
			ratio = short(f.ratio)
		}
		measured := ""
		if !math.IsNaN(f.value) {
			measured = short(f.value) + " " + f.unit
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.name, measured, f.reference, ratio, f.limit(f.bound.must), f.limit(f.bound.goal), f.verdict())
	}
	tw.Flush()
	fmt.Fprintln(w)
	for _, n := range t.notes {
		fmt.Fprintln(w, "  "+n)
	}
}

// limit writes a bound: with a factor sign if it is on the ratio.
func (f *figure) limit(v float64) string {
	if v == 0 {
		return ""
	}
	sign := "<= "
	if f.bound.atLeast {
		sign = ">= "
	}
	if f.bound.onRatio {
		return sign + short(v) + "x"
	}
	return sign + short(v) + " " + f.unit
}

// verdict says whether the bounds are met, and by what factor one is missed.
func (f *figure) verdict() string {
	if f.note != "" {
		return f.note
	}
	v := f.value
	if f.bound.onRatio {
		v = f.ratio
	}
	miss := func(limit float64) float64 { // above 1: missed
		if f.bound.atLeast {
			return limit / v
		}
		return v / limit
	}
	must, goal := f.bound.must, f.bound.goal
	switch {
	case must == 0 && goal == 0:
		return ""
	case must != 0 && miss(must) > 1:
		return fmt.Sprintf("MISSED %.2f times", miss(must))
	case goal != 0 && miss(goal) > 1:
		return fmt.Sprintf("met; goal missed %.2f times", miss(goal))
	}
	return "met"
}

// short writes a number with three figures.
func short(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// median of any figures; NaN for none.
func median(v []float64) float64 { return quantile(v, 0.5) }

// quantile q of v by nearest rank; NaN for none.
func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

// spread writes the figures of all rounds, for the notes.
func spread(v []float64) string {
	out := make([]string, len(v))
	for i, x := range v {
		out[i] = short(x)
	}
	return strings.Join(out, " ")
}
