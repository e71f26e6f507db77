package interp

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"reflect"
	"strings"
	"time"

	"understudy/control"
	"understudy/dtclsh/syntax"
	"understudy/internal/statfile"
)

// DTSTAT and STATSLOG.

// statslog is STATSLOG START, STOP and STATUS.
func (in *Interp) statslog(ctx context.Context, c *syntax.Call) (answer, error) {
	m, err := in.current(ctx)
	if name, given, e := in.arg(c, "machine"); e != nil {
		return answer{}, e
	} else if given {
		m, _, err = in.machine(ctx, name)
	}
	if err != nil {
		return answer{}, err
	}
	var reply control.Statslog
	action := strings.ToLower(strings.TrimPrefix(c.Cmd.Name, "STATSLOG "))
	if action == "status" {
		err = in.askOn(ctx, m, "statslog.status", struct{}{}, &reply)
	} else {
		err = in.askOn(ctx, m, "statslog", control.StatslogRequest{Action: action}, &reply)
	}
	if err != nil {
		return answer{}, err
	}
	a := answer{value: number(1), json: reply, lines: []string{"Statistics are not logged"}, quiet: action != "status"}
	if reply.Running {
		a.lines = []string{"Statistics are logged to " + reply.File}
	} else if action == "status" {
		a.value = number(0)
	}
	return a, nil
}

// statSink is where DTSTAT puts snapshots.
type statSink struct {
	from, to time.Time
	only     map[string]bool // peers and addresses; empty: all
	silent   bool
	record   string // file of snapshots; "": none
	cons     *csv.Writer
	targets  *csv.Writer
	files    []*os.File
	count    int64
}

// maxRecorded bounds what -t records, in bytes: the newest half of it at least.
const maxRecorded = 1 << 30

func (in *Interp) dtstat(ctx context.Context, c *syntax.Call) (answer, error) {
	s, err := in.statSink(c)
	if err != nil {
		return answer{}, err
	}
	defer s.close()
	if file, given, _ := in.arg(c, "from_file"); given {
		err = in.statFile(ctx, s, file)
	} else {
		err = in.statLive(ctx, c, s)
	}
	if e := s.flush(); err == nil {
		err = e
	}
	return answer{value: number(s.count)}, err
}

// statSink reads the options of DTSTAT and makes the files it writes.
func (in *Interp) statSink(c *syntax.Call) (*statSink, error) {
	s := &statSink{only: map[string]bool{}, silent: c.Has("-p")}
	var err error
	if s.from, err = in.moment(c, "start_date", "start_time"); err != nil {
		return nil, err
	}
	if s.to, err = in.moment(c, "stop_date", "stop_time"); err != nil {
		return nil, err
	}
	if s.record, _, err = in.arg(c, "to_file"); err != nil {
		return nil, err
	}
	more := c.Args("more_addresses")
	if _, given := c.Arg("address"); !given && len(more) > 0 {
		return nil, fail(syntax.BadParameter, "-IP, and addresses or names divided by commas", "%q is no option of DTSTAT", more[0].Text)
	}
	for _, v := range append(c.Args("address"), more...) {
		word, err := in.textOf(v)
		if err != nil {
			return nil, err
		}
		for a := range strings.SplitSeq(word, ",") {
			s.only[strings.ToLower(strings.TrimSpace(a))] = true
		}
	}
	for name, kind := range map[string]struct {
		w  **csv.Writer
		of any
	}{"connections_file": {&s.cons, control.ConnectionStats{}}, "targets_file": {&s.targets, control.TargetStats{}}} {
		path, given, err := in.arg(c, name)
		if err != nil || !given {
			if err != nil {
				return nil, err
			}
			continue
		}
		f, err := os.Create(path)
		if err != nil {
			s.close()
			return nil, fail(syntax.Failed, "", "%v", err)
		}
		s.files, *kind.w = append(s.files, f), csv.NewWriter(f)
		_ = (*kind.w).Write(append([]string{"time", "machine"}, statColumns(reflect.TypeOf(kind.of))...)) // shows at the end
	}
	return s, nil
}

// statLive shows the figures of now, once or every -i seconds until Ctrl-C.
func (in *Interp) statLive(ctx context.Context, c *syntax.Call, s *statSink) error {
	m, err := in.current(ctx)
	if server, given, _ := in.arg(c, "server"); given {
		port, e := in.integer(c, "port")
		if e != nil {
			return e
		}
		m, _, err = in.machine(ctx, net.JoinHostPort(strings.Trim(server, "[]"), fmt.Sprint(port)))
	}
	if err != nil {
		return err
	}
	every, err := in.optional(c, "interval")
	if err == nil && (every < 0 || every > 86400) {
		err = fail(syntax.BadParameter, "", "-i %d: 1 to 86400 seconds", every)
	}
	for err == nil {
		var st control.Stats
		if err = in.askOn(ctx, m, "stats", struct{}{}, &st); err == nil {
			err = in.statShow(s, &st)
		}
		if err != nil || every == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Duration(every) * time.Second):
		}
	}
	return err
}

// statFile reads a file of STATSLOG or -t.
func (in *Interp) statFile(ctx context.Context, s *statSink, file string) error {
	records, damaged, err := statfile.Read(file)
	if err != nil {
		return fail(syntax.Failed, "give a file made by statslog, connect tdu or dtstat -t", "%v", err)
	}
	for r := range records {
		var st control.Stats
		if json.Unmarshal(r, &st) != nil {
			*damaged++
			continue
		}
		if err := in.statShow(s, &st); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if *damaged > 0 {
		in.warn(fmt.Sprintf("%d lines of %s are damaged and left out", *damaged, file))
	}
	return nil
}

// statShow puts one snapshot where it belongs.
func (in *Interp) statShow(s *statSink, st *control.Stats) error {
	if !s.from.IsZero() && st.Time.Before(s.from) || !s.to.IsZero() && st.Time.After(s.to) {
		return nil
	}
	s.filter(st)
	s.count++
	if s.record != "" {
		raw, err := json.Marshal(st)
		if err == nil {
			err = statfile.Append(s.record, [][]byte{raw}, maxRecorded)
		}
		if err != nil {
			return fail(syntax.Failed, "", "%v", err)
		}
	}
	at := []string{st.Time.Format(time.RFC3339Nano), st.Machine}
	for i := range st.Connections {
		if s.cons != nil {
			_ = s.cons.Write(append(at, statCells(st.Connections[i])...)) // shows at the end
		}
	}
	for i := range st.Targets {
		if s.targets != nil {
			_ = s.targets.Write(append(at, statCells(st.Targets[i])...))
		}
	}
	if !s.silent {
		in.print(answer{json: st, lines: statLines(st)})
	}
	return nil
}

// filter keeps the peers that -IP names.
func (s *statSink) filter(st *control.Stats) {
	if len(s.only) == 0 {
		return
	}
	cons, targets := []control.ConnectionStats{}, []control.TargetStats{}
	for _, c := range st.Connections {
		host, _, _ := net.SplitHostPort(c.Address)
		if s.only[strings.ToLower(c.Peer)] || s.only[host] || s.only[c.Address] {
			cons = append(cons, c)
		}
	}
	for _, t := range st.Targets {
		if s.only[strings.ToLower(t.Peer)] {
			targets = append(targets, t)
		}
	}
	st.Connections, st.Targets = cons, targets
}

func (s *statSink) flush() (err error) {
	for _, w := range []*csv.Writer{s.cons, s.targets} {
		if w == nil {
			continue
		}
		w.Flush()
		if e := w.Error(); e != nil && err == nil {
			err = fail(syntax.Failed, "", "write statistics: %v", e)
		}
	}
	return err
}

func (s *statSink) close() {
	for _, f := range s.files {
		_ = f.Close() // flushed before
	}
}

// statColumns are the names of a struct's figures; what is no single figure is left out.
func statColumns(t reflect.Type) (out []string) {
	for f := range t.Fields() {
		if f.Type.Kind() != reflect.Pointer {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			out = append(out, name)
		}
	}
	return out
}

func statCells(v any) (out []string) {
	for f, fv := range reflect.ValueOf(v).Fields() {
		if f.Type.Kind() != reflect.Pointer {
			out = append(out, fmt.Sprint(fv.Interface()))
		}
	}
	return out
}

// statLines show a snapshot to people.
func statLines(st *control.Stats) []string {
	out := []string{fmt.Sprintf("- Statistics of %s at %s -", st.Machine, st.Time.Local().Format("01/02/2006 15:04:05"))}
	out = append(out, statPairs("Memory", st.Memory), statPairs("Security", st.Security), statPairs("Kernel", st.Kernel))
	for _, t := range st.Targets {
		out = append(out, statPairs("Target of "+t.Peer, t))
	}
	for _, c := range st.Connections {
		out = append(out, statPairs(fmt.Sprintf("Connection %d", c.ID), c))
		out = append(out, trialLines(c.Trial)...)
	}
	return out
}

func statPairs(title string, v any) string {
	names, cells := statColumns(reflect.TypeOf(v)), statCells(v)
	for i := range names {
		names[i] += "=" + cells[i]
	}
	return title + ": " + strings.Join(names, " ")
}

// trialLines are the report of a trial connection.
func trialLines(t *control.TrialStats) []string {
	if t == nil {
		return nil
	}
	rows := [][]string{{"Line", "Mirror takes", "Longest queue", "Longest lag", "Keeps up"}}
	for _, l := range t.Lines {
		keeps := "no"
		if l.Keeps {
			keeps = "yes"
		}
		rows = append(rows, []string{fmt.Sprintf("%g Mbit/s", float64(l.Rate)*8/1e6), fmt.Sprint(time.Duration(l.MirrorSeconds * float64(time.Second)).Round(time.Second)),
			fmt.Sprintf("%d bytes", l.QueueBytes), fmt.Sprint(time.Duration(l.LagSeconds * float64(time.Second)).Round(time.Millisecond)), keeps})
	}
	done := "under way"
	if t.MirrorDone {
		done = "done"
	}
	return append([]string{
		fmt.Sprintf("Trial since %s: mirror %s, %d operations, %d bytes", t.Since.Local().Format("01/02/2006 15:04:05"), done, t.MirrorOps, t.MirrorBytes),
		fmt.Sprintf("Changes: %d operations, %d bytes; %.0f bytes/s on average, %.0f in the busiest minute, %d in the busiest second", t.RepOps, t.RepBytes, t.MeanRate, t.PeakMinute, t.PeakSecond),
	}, table(rows)...)
}
