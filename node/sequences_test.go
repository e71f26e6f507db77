package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"understudy/internal/sametree"
)

// sequence is some steps in a directory of its own, which begins with a few objects.
type sequence struct {
	Dir   string // below the directory of the batch
	Steps []step
}

func (q sequence) String() string {
	var lines []string
	for _, s := range q.Steps {
		lines = append(lines, s.String())
	}
	return strings.Join(lines, "; ")
}

// batch is what one child process executes: every sequence below Dir, and again below
// Plain, which is not captured. Lines of Report say where the answers differ.
type batch struct {
	Dir, Plain string
	Sequences  []sequence
}

// sequenceEnv makes the test program execute a batch and end.
const sequenceEnv = "UNDERSTUDY_SEQUENCES"

func sequenceChild() {
	if os.Getenv(sequenceEnv) == "" {
		return
	}
	var b batch
	if err := json.NewDecoder(os.Stdin).Decode(&b); err != nil {
		fmt.Fprintln(os.Stderr, "batch:", err)
		os.Exit(1)
	}
	for _, q := range b.Sequences {
		got, err := execute(filepath.Join(b.Dir, q.Dir), false, q.Steps)
		want, perr := execute(filepath.Join(b.Plain, q.Dir), true, q.Steps)
		if err != nil || perr != nil {
			fmt.Fprintln(os.Stderr, q.Dir, err, perr)
			os.Exit(1)
		}
		for i := range q.Steps {
			if got[i] != want[i] {
				fmt.Printf("%q: %s: answered %q, without capture %q\n", q.Dir+"/", q.Steps[i], got[i], want[i])
			}
		}
	}
	os.Exit(0)
}

// perform executes sequences on the protected directory, settles, and returns what
// differs, by sequence: answers, the captured tree from a plain one, and the replica.
func (p *pair) perform(list []sequence) map[string][]string {
	p.t.Helper()
	p.rounds++
	round := fmt.Sprintf("round-%d", p.rounds)
	b := batch{Dir: filepath.Join(p.dir, round), Plain: filepath.Join(p.base, "plain", round), Sequences: list}
	in, err := json.Marshal(b)
	must(p.t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), sequenceEnv+"=1")
	cmd.Stdin = bytes.NewReader(in)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		p.t.Fatalf("sequences: %v\n%s", err, log.Bytes())
	}
	p.settle()
	lines := strings.Split(out.String(), "\n")
	lines = append(lines, treeDiffs(p.t, b.Dir, filepath.Join(p.replica, round))...)
	// Times cannot be equal, and what a plain tree and the mount's differ in.
	plain, err := sametree.Diff(b.Plain, filepath.Join(p.replica, round), sametree.Options{NoMtime: true})
	must(p.t, err)
	lines = append(lines, plain...)
	must(p.t, exec.Command("rm", "-rf", b.Dir, b.Plain).Run())
	return bySequence(lines)
}

// treeDiffs compares two trees in a process of its own.
func treeDiffs(t testing.TB, a, b string) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), compareEnv+"="+a+"\x1f"+b)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("compare: %v\n%s", err, out)
	}
	return strings.Split(string(out), "\n")
}

// bySequence sorts lines, which begin with a quoted path, by its first part.
func bySequence(lines []string) map[string][]string {
	out := map[string][]string{}
	for _, l := range lines {
		if l == "" {
			continue
		}
		dir, _, _ := strings.Cut(strings.TrimPrefix(l, `"`), "/")
		dir, _, _ = strings.Cut(dir, `"`)
		out[dir] = append(out[dir], l)
	}
	return out
}

// check performs a batch; of one that differs, each sequence to blame is made as short
// as it can be and printed.
func (p *pair) check(list []sequence) {
	p.t.Helper()
	bad := p.perform(list)
	if len(bad) == 0 {
		return
	}
	for _, q := range list {
		lines := bad[q.Dir]
		if len(lines) == 0 {
			continue
		}
		small, again := p.shortest(q)
		if again == nil {
			p.t.Errorf("differs among others, not alone: %s\n  %s", q, strings.Join(lines, "\n  "))
		} else {
			p.t.Errorf("differs: %s\n  %s", small, strings.Join(again, "\n  "))
		}
		if p.failures++; p.failures >= 5 {
			p.t.FailNow()
		}
	}
	if !p.t.Failed() {
		p.t.Errorf("the batch differs:\n%v", bad)
	}
}

// shortest leaves out steps as long as what remains still differs, and returns what
// differs then; nil if the sequence alone does not differ.
func (p *pair) shortest(q sequence) (sequence, []string) {
	p.t.Helper()
	fails := func(q sequence) []string { return p.perform([]sequence{q})[q.Dir] }
	lines := fails(q)
	for i := 0; lines != nil && i < len(q.Steps); {
		less := sequence{q.Dir, slices.Delete(slices.Clone(q.Steps), i, i+1)}
		if got := fails(less); got != nil {
			q, lines = less, got
		} else {
			i++
		}
	}
	return q, lines
}

// TestRandomSequencesArriveIdentically (G2): short random sequences over all kinds of
// operations, each in a directory of its own, captured and applied to an identical
// tree; the calls answer as without capture, and leave the same.
func TestRandomSequencesArriveIdentically(t *testing.T) {
	needRoot(t)
	p := protected(t)
	gen := rapid.SliceOfN(stepGen(), 1, 12)
	batchSize := 250
	for at := 0; at < scaled(1000, 50_000); at += batchSize {
		var list []sequence
		for i := at; i < at+batchSize; i++ {
			list = append(list, sequence{fmt.Sprintf("s%d", i), gen.Example(i)})
		}
		p.check(list)
	}
	p.same()
}

// TestAllShortSequencesArriveIdentically (G2): every sequence of one step, and in the
// long form every one of two, over a small universe of names.
func TestAllShortSequencesArriveIdentically(t *testing.T) {
	needRoot(t)
	p := protected(t)
	all := allSteps()
	var list []sequence
	n := 0
	add := func(steps ...step) {
		list = append(list, sequence{fmt.Sprintf("s%d", n), steps})
		if n++; len(list) == 500 {
			p.check(list)
			list = nil
		}
	}
	for _, s := range all {
		add(s)
	}
	if long() {
		for _, a := range all {
			for _, b := range all {
				add(a, b)
			}
		}
	}
	p.check(list)
	p.same()
	t.Logf("%d sequences of %d different steps", n, len(all))
}
