package exercise

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// childEnv tells a test program that it is a child, and what to do.
const childEnv = "UNDERSTUDY_EXERCISE"

// Job is a run of an exerciser as data, so that another process can do it. A mount
// served by the test's own process must be exercised from another one: a page fault on
// a mapping stops a thread without the Go runtime knowing, which then waits for it
// while it cannot serve the fault.
type Job struct {
	Kind    string // "fsx", "stress" or "rate"
	Dir     string
	Seed    int64
	Ops     int // of fsx and stress; of rate, changes a second
	Workers int // of stress
	FSX     FSXOptions
	Stress  StressOptions
}

// Run does the job in this process. stop, which may be nil, ends it early.
func (j Job) Run(stop <-chan struct{}) (Stats, error) {
	j.FSX.Stop, j.Stress.Stop = stop, stop
	switch j.Kind {
	case "fsx":
		return FSX(j.Dir, j.Seed, j.Ops, j.FSX)
	case "stress":
		return Stress(j.Dir, j.Seed, max(j.Workers, 1), j.Ops, j.Stress)
	case "rate":
		return Rate(j.Dir, j.Seed, j.Ops, stop)
	}
	return newStats(), fmt.Errorf("exercise of kind %q", j.Kind)
}

type childResult struct {
	Stats Stats
	Err   string
}

// RunChild does the job in a child process: the test program once more, whose TestMain
// must call Child first. The end of ctx ends the job in good order; a child that does
// not end within 20 s after that is killed.
func (j Job) RunChild(ctx context.Context) (Stats, error) {
	spec, err := json.Marshal(j)
	if err != nil {
		return newStats(), err
	}
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(spec))
	stdin, err := cmd.StdinPipe() // its end tells the child to stop
	if err != nil {
		return newStats(), err
	}
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	cmd.Cancel = stdin.Close
	cmd.WaitDelay = 20 * time.Second
	err = cmd.Run()
	res := childResult{Stats: newStats()}
	if jerr := json.Unmarshal(out.Bytes(), &res); jerr != nil {
		return res.Stats, fmt.Errorf("exercise %s in a child: %w: %.4000s", j.Kind, errors.Join(err, jerr), log.Bytes())
	}
	if res.Err != "" {
		return res.Stats, errors.New(res.Err)
	}
	return res.Stats, nil
}

// Child does a job and ends the process if it was started by RunChild; else it returns
// at once. Call it first in TestMain.
func Child() {
	spec := os.Getenv(childEnv)
	if spec == "" {
		return
	}
	stop := make(chan struct{})
	go func() {
		os.Stdin.Read(make([]byte, 1)) // ends when the parent closes it, or dies
		close(stop)
	}()
	var j Job
	res := childResult{Stats: newStats()}
	err := json.Unmarshal([]byte(spec), &j)
	if err == nil {
		res.Stats, err = j.Run(stop)
	}
	if err != nil {
		res.Err = err.Error()
	}
	json.NewEncoder(os.Stdout).Encode(res)
	os.Exit(0)
}
