package metrics

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/runqy/runqy-worker/internal/status"
)

// Sources is where the metric set reads what it does not count itself. The functions are called at every scrape, from
// several goroutines at once, and should answer from memory or a cache.
type Sources struct {
	// Info is what never changes while the worker lives.
	Info Info
	// QueueNames are the configured queues: their series exist from the start.
	QueueNames []string
	// CrashCauses and RestartCauses are the label values that may come: their series exist from the start.
	CrashCauses, RestartCauses []string

	// Worker is required: without it no alert could report an unhealthy worker.
	Worker func() Worker
	// Queues reads the queues. The series of a queue whose Err is set, and with an error those of all queues, are absent
	// from this scrape; the others stay. It must return soon after ctx ends; ctx ends after two seconds. Nil func: no
	// queue series at all.
	Queues func(context.Context) (map[string]status.Depth, error)
	// Python describes the running interpreter; the zero value while there is none. Nil func: no python_ series.
	Python func() Python
	// ChildPID is the Python process; 0 while there is none. Nil func: no runqy_child_ series.
	ChildPID func() int
	// LogLinesDropped counts the lines that the log has lost. Nil func: no such series.
	LogLinesDropped func() int64
}

// Info identifies the worker.
type Info struct {
	WorkerID    string
	Version     string
	Environment string
	Started     time.Time // when the worker process started
}

// Worker is the worker's state at one moment.
type Worker struct {
	Healthy     bool
	Report      status.Mark   // of the report that Healthy is read from
	Lag         time.Duration // how late the Python process answers or its event loop turns
	ActiveTasks int
	IdleTasks   int // of these, how many use no CPU time and report no progress; negative: not known, the series is absent
	Concurrency int
	// RecyclingSuspended: the Python process is larger than python.max_memory, and is not replaced, since that would not
	// help or has happened too often.
	RecyclingSuspended bool
	LastBeat           time.Time // last heartbeat that Redis took; zero: none yet, the series is absent
	LastCycle          time.Time // last answered cycle, of the queue where that is longest ago; zero: one has had none
	LastTake           time.Time // last task that was taken; zero: none was
}

// Python describes an interpreter and its garbage collector.
type Python struct {
	Implementation      string // "CPython"
	Version             string // "3.11.7"; empty: not known, no python_info
	Major, Minor, Patch int
	GC                  []GC // since the interpreter started, one per generation
}

// GC counts what the collector of one generation did.
type GC struct {
	Generation                            int
	Collections, Collected, Uncollectable uint64
}

func (s Sources) validate() error {
	if s.Worker == nil {
		return errors.New("Sources.Worker is missing; give the function that reads the worker's state")
	}
	for what, names := range map[string][]string{
		"QueueNames": s.QueueNames, "CrashCauses": s.CrashCauses, "RestartCauses": s.RestartCauses,
	} {
		for _, name := range names {
			if name == "" || !utf8.ValidString(name) {
				return fmt.Errorf("field %s of Sources has %q, which cannot be a label value; give names in UTF-8", what, name)
			}
		}
	}
	return nil
}
