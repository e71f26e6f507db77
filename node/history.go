package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"understudy/applier"
	"understudy/event"
	"understudy/fileop"
	"understudy/history"
	"understudy/internal/atomicfile"
	"understudy/stream"
)

// A target may keep what it applied. The history of a replica is one or more generations,
// each a base, which is a copy of the replica at one operation, and a log of what was
// applied behind it (package history). A generation goes on over epochs and restarts as
// long as its log has no gap; after one, the next base begins another. docs/decisions
// says why it is a copy and not the mirror's records.

// keepWhat is how much of a history is kept. Both zero: none is.
type keepWhat struct {
	age   time.Duration
	bytes int64 // of its log
}

func (k keepWhat) on() bool { return k != keepWhat{} }

var keepTerm = regexp.MustCompile(`^(\d+)\s*(s|m|h|d|w|MB|GB|TB|MiB|GiB|TiB)$`)

var keepUnits = map[string]int64{"s": int64(time.Second), "m": int64(time.Minute), "h": int64(time.Hour), "d": 24 * int64(time.Hour), "w": 7 * 24 * int64(time.Hour),
	"MB": 1e6, "GB": 1e9, "TB": 1e12, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}

// parseKeep reads an age (90m, 72h, 14d, 2w), a size (500GB, 2TiB), or both with a comma
// between, of which the smaller counts. "" and off are none.
func parseKeep(s string) (k keepWhat, err error) {
	if s == "" || strings.EqualFold(s, "off") {
		return k, nil
	}
	for _, part := range strings.Split(s, ",") {
		m := keepTerm.FindStringSubmatch(strings.TrimSpace(part))
		if m == nil {
			return k, fmt.Errorf("history: %.100q: an age as 72h or 14d, a size as 500GB, both with a comma, or off", s)
		}
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil || n < 1 || n > (1<<62)/keepUnits[m[2]] {
			return k, fmt.Errorf("history: %.100q: number out of range", s)
		}
		if v := n * keepUnits[m[2]]; strings.HasSuffix(m[2], "B") {
			k.bytes = v
		} else {
			k.age = time.Duration(v)
		}
	}
	return k, nil
}

// past is the history of one replica.
type past struct {
	n    *Node
	key  string // of the replica
	dir  string
	log  *slog.Logger
	work chan struct{} // holds one token while bases are worked with

	mu      sync.Mutex // guards what follows
	info    joinInfo
	gens    []*generation // oldest first
	live    *generation   // whose log grows; nil: none
	recent  recents
	why     string    // why nothing is kept although it should be
	retryAt time.Time // before that no base is made
	halves  int       // bases given up because a file was half sent; who works with bases
}

// generation is one base and its log.
type generation struct {
	no  int
	dir string
	log *history.Log

	storing sync.Mutex // of meta; who works with the bases may read it without
	meta    genMeta
}

// genMeta is gen.json. It is written last: without it a generation does not exist.
type genMeta struct {
	Version int           `json:"version"`
	Info    joinInfo      `json:"info"`
	Made    time.Time     `json:"made"`
	Base    int           `json:"base"`  // which directory
	Start   history.Start `json:"start"` // where the base stands
	// Moving: the base is being brought there, in place.
	Moving bool `json:"moving,omitempty"`
	// Over: its log takes nothing more, whatever comes.
	Over bool `json:"over,omitempty"`
}

const genVersion = 1

func (g *generation) base() string { return filepath.Join(g.dir, fmt.Sprintf("base-%d", g.meta.Base)) }

// basePaths are the state directory and the trees of a base.
func basePaths(base string, info *joinInfo) (state string, paths map[uint32]string) {
	paths = map[uint32]string{}
	for _, r := range info.Roots {
		paths[r.Tree] = filepath.Join(base, "trees", strconv.Itoa(int(r.Tree)))
	}
	return filepath.Join(base, "state"), paths
}

func (g *generation) store() error {
	raw, err := json.MarshalIndent(&g.meta, "", " ")
	if err == nil {
		err = atomicfile.Write(filepath.Join(g.dir, "gen.json"), append(raw, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("store generation of the history: %w", err)
	}
	return nil
}

// end remembers that the log takes nothing more.
func (g *generation) end() error {
	g.storing.Lock()
	defer g.storing.Unlock()
	g.meta.Over = true
	return g.store()
}

func (c *Config) historyDir() string {
	if c.HistoryDir != "" {
		return c.HistoryDir
	}
	return filepath.Join(c.Data, "history")
}

// keeps is how much of this replica's past is kept: what its connection asks for, else
// the machine's setting.
func (n *Node) keeps(info *joinInfo) keepWhat {
	s := n.conf().History
	if info.History != "" {
		s = info.History
	}
	k, err := parseKeep(s)
	if err != nil { // it was checked where it came in
		n.log.Error("history setting not understood", "err", err)
	}
	return k
}

// pastOf finds or makes the history of a replica.
func (n *Node) pastOf(info *joinInfo) *past {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.pasts[info.key()]; p != nil {
		p.mu.Lock()
		p.info = *info
		p.mu.Unlock()
		return p
	}
	dir := filepath.Join(n.cfg.historyDir(), filepath.Base(n.stateDir(info)))
	p := n.newPast(info, dir)
	n.pasts[info.key()] = p
	return p
}

func (n *Node) newPast(info *joinInfo, dir string) *past {
	return &past{n: n, key: info.key(), dir: dir, info: *info, work: make(chan struct{}, 1), log: n.log.With("source", info.Source, "set", info.Set)}
}

// loadPasts reads the histories on disk. What was being made when the machine stopped is
// taken away.
func (n *Node) loadPasts() {
	dirs, err := filepath.Glob(filepath.Join(n.cfg.historyDir(), "*"))
	if err != nil {
		n.log.Error("histories not found", "err", err)
	}
	for _, dir := range dirs {
		p, err := n.loadPast(dir)
		if err != nil {
			n.log.Error("history not read", "dir", dir, "err", err)
		}
		if p != nil {
			n.mu.Lock()
			n.pasts[p.key] = p
			n.mu.Unlock()
		}
	}
}

func (n *Node) loadPast(dir string) (p *past, err error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range names {
		no, isGen := strings.CutPrefix(e.Name(), "g")
		g := &generation{dir: filepath.Join(dir, e.Name())}
		if g.no, err = strconv.Atoi(no); !isGen || err != nil {
			errs = append(errs, os.RemoveAll(g.dir)) // of a rebuild that was under way
			continue
		}
		if err := g.load(); errors.Is(err, os.ErrNotExist) {
			errs = append(errs, os.RemoveAll(g.dir))
			continue
		} else if err != nil {
			errs = append(errs, fmt.Errorf("generation %d: %w", g.no, err))
			continue
		}
		if p == nil {
			p = n.newPast(&g.meta.Info, dir)
		}
		p.gens = append(p.gens, g)
	}
	if p != nil {
		slices.SortFunc(p.gens, func(a, b *generation) int { return a.no - b.no })
	}
	return p, errors.Join(errs...)
}

func (g *generation) load() error {
	raw, err := os.ReadFile(filepath.Join(g.dir, "gen.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &g.meta); err != nil {
		return fmt.Errorf("%w: %w", history.ErrDamaged, err)
	}
	if g.log, err = history.Open(filepath.Join(g.dir, "log"), g.meta.Start); err != nil {
		return err
	}
	bases, err := filepath.Glob(filepath.Join(g.dir, "base-*"))
	for _, b := range bases {
		if b != g.base() {
			err = errors.Join(err, os.RemoveAll(b))
		}
	}
	return err
}

// missing is why nothing is kept although it should be; "" if that is not so.
func (p *past) missing() string {
	const most = 200 // bytes: it goes with every report
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.live != nil || !p.n.keeps(&p.info).on():
		return ""
	case p.why == "":
		return "its base is not made yet"
	}
	return p.why[:min(len(p.why), most)]
}

// begin is told that a replica's epoch opens behind a mirror record: its history goes on, or
// waits for a base. killed: the last stop was not clean, torn: it was a power cut.
//
// Mirror records do not come twice. After a clean stop those that the log has and the replica
// has not are void. After a kill some of them were applied and in part undone again, and after
// a power cut some may be missing in the log: what a rebuild would make of them is not what
// the replica is.
func (p *past) begin(info *joinInfo, mirrored fileop.Seq, killed, torn bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recent, p.live, p.why = recents{}, nil, ""
	if len(p.gens) == 0 || !p.n.keeps(info).on() {
		return
	}
	g := p.gens[len(p.gens)-1]
	if g.meta.Over {
		return
	}
	err := g.log.Begin(info.Epoch)
	if err == nil && (torn || killed && g.log.Mirror() > mirrored || !samePlaces(info, &g.meta.Info)) {
		err = history.ErrGap
	}
	if err == nil {
		err = g.log.Void(mirrored)
	}
	if err != nil {
		p.log.Warn("history begins anew with a further base", "err", errors.Join(err, g.end()))
		return
	}
	p.live = g
}

// samePlaces: the root directories of a set are the same ones.
func samePlaces(a, b *joinInfo) bool {
	return slices.EqualFunc(a.Roots, b.Roots, func(x, y joinRoot) bool { return x.Tree == y.Tree && x.From == y.From && x.Obj == y.Obj })
}

// ended notes what a replica had applied when its epoch ended.
func (p *past) ended(info *joinInfo, pos applier.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live == nil {
		return
	}
	if err := p.live.log.EndEpoch(history.End{Epoch: info.Epoch, Applied: pos.Applied, Mirror: pos.MirrorApplied}); err != nil {
		p.brokenBy(err)
	}
	p.live = nil
}

// brokenBy ends the keeping until another base is made. p.mu is held.
func (p *past) brokenBy(err error) {
	if p.live == nil {
		return
	}
	ended := p.live.end() // if it cannot be remembered, the gap is found again
	p.live, p.why, p.retryAt = nil, err.Error(), time.Now().Add(baseRetry)
	p.log.Warn("history interrupted", "err", errors.Join(err, ended))
	p.n.events.Set(event.HistoryBroken, p.about(), p.info.Source, err)
}

func (p *past) about() event.About {
	return event.About{Source: p.info.Source, Set: p.info.Set, Connection: stream.Token(p.info.Connection)}
}
