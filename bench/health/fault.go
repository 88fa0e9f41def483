package main

import (
	"context"
	"os"
	"os/exec"
	"time"
)

// truth is whether a worker can do tasks, as long as a fault lasts.
type truth string

const (
	unable truth = "cannot work"
	able   truth = "can work"
	asked  truth = "" // a probe decides: the fault makes everything slow, or heals by itself
)

// What the definitions of false answers leave open.
const (
	// greenLimit is how long a worker that cannot work may be called healthy.
	greenLimit = 10 * time.Second
	// backLimit is how long a worker may be called unhealthy after the end of the fault.
	backLimit = 15 * time.Second
	// watched is how long the answers are looked at, from the begin of the fault: longer than greenLimit.
	watched = 14 * time.Second
)

// fault is something that goes wrong, or only looks as if it did.
type fault struct {
	name  string // for -only
	title string // for people
	group string // the heading that it is under
	truth truth

	env      []string // of our worker: its configuration, and what python/tasks.py reads
	python   string   // the program of our worker's tasks; empty: tasks.py
	proxied  bool     // there is a proxy between the system and Redis
	password bool     // the system is Redis' user "worker", the bench another one
	needs    []string // the programs that it takes; some take root as well
	lasts    bool     // it is looked at for as long as watch says, even if the tasks are done earlier
	apart    bool     // the system is on a host of its own
	idle     bool     // nothing is to be done, so there is no probe
	any      bool     // one task of many that is done is enough
	alone    bool     // it takes the whole machine, so that no other case may run beside it
	never    bool     // the system is never healthy before the fault
	quick    bool     // it is part of make test

	prepare func(ctx context.Context, b *bed) error                    // before the system is started
	command func(ctx context.Context, b *bed) (func(*exec.Cmd), error) // changes how the system is started
	inject  func(ctx context.Context, b *bed) error
	lift    func(ctx context.Context, b *bed) error // ends the fault; nil: it lasts

	after  time.Duration // how long after inject the fault begins
	watch  time.Duration // how long the answers are looked at; 0: watched
	settle time.Duration // while tasks are done: for how long after inject another answer than healthy is right
	blinks bool          // while tasks are done: another answer than healthy is right for up to greenLimit at a time
	probe  task          // the task that decides; empty: echo
	feed   time.Duration // how often further tasks like the probe are enqueued; 0: never

	peers []string // the systems beside ours that it applies to
}

// task is one of those in python/faults.py with its payload.
type task struct {
	name    string
	payload map[string]any
	limit   time.Duration // how long the task may run, for those who know such a limit; 0: the default
}

// everybody are the systems beside ours.
func everybody() []string { return []string{"celery", "rq", "asynq"} }

// inPython are those of them whose handlers are Python.
func inPython() []string { return []string{"celery", "rq"} }

// faults are all of them, in the order of the page. In the quick form what takes long takes 12 s instead of a minute.
func faults(quick bool) []fault {
	long := 60.0
	if quick {
		long = 12
	}
	var all []fault
	for _, group := range []struct {
		title  string
		faults []fault
	}{
		{"Redis refuses", refusals()},
		{"Redis does not answer", outages()},
		{"The database", databases()},
		{"The Python process", processes()},
		{"A check of the author's", checks()},
		{"The worker", workers()},
		{"Nothing is wrong", innocents(long)},
		{"Redis, for a moment", passing()},
	} {
		for _, f := range group.faults {
			f.group = group.title
			all = append(all, f)
		}
	}
	return all
}

// missing says what the machine lacks for the case; empty: nothing.
func (f *fault) missing() string {
	if len(f.needs) > 0 && os.Geteuid() != 0 {
		return "it takes root"
	}
	for _, program := range f.needs {
		if _, err := exec.LookPath(program); err != nil {
			return "there is no " + program
		}
	}
	return ""
}

func (f *fault) length() time.Duration {
	if f.watch > 0 {
		return f.watch
	}
	return watched
}

func (f *fault) probing() task {
	if f.probe.name == "" {
		return task{name: "echo", payload: map[string]any{"n": 1}}
	}
	return f.probe
}
