package dashboard

import (
	"strings"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// Tone says how good or bad something is; the page's style sheet has a colour and a sign for each.
type Tone string

// The tones, from good to bad. Quiet is for what is neither: starting, draining, nothing to tell.
const (
	Good  Tone = "good"
	Quiet Tone = "quiet"
	Warn  Tone = "warn"
	Bad   Tone = "bad"
)

// View is all that one rendering of the page shows. What the visitor may not see is not in it, so that no template can
// show it: see visitor.go.
type View struct {
	Name        string // the worker's id, or what this process is when it is no worker
	Version     string
	Environment string
	Host        string
	At          time.Time // when it was put together; every age counts from here

	Trusted  bool   // the visitor sees what tasks carry, and may act
	Payloads bool   // payloads are shown: the visitor is trusted and dashboard.show_payloads is on
	Token    string // of every form; empty unless Trusted

	Health   Health
	Process  *Process // nil: this process runs no Python
	Queues   Queues
	Load     *Load   // nil: this process runs no tasks
	Active   *Active // nil: this process runs no tasks
	Failures Failures
	Fleet    Fleet
	System   SystemView
}

// SystemView is what is known of the system beside the workers and the queues that are listed.
type SystemView struct {
	Err        string    // why it could not be read
	At         time.Time // of the last good reading; zero: there was none
	Unserved   int       // queues with tasks that nobody takes
	Waits      int       // of these: whose worker is starting
	Stranded   int64     // their tasks
	Unread     int       // queues beyond the limit of how many are read
	Deaths     []Death   // within the last hour, the latest first
	MoreDeaths int       // how many are not shown
}

// Death is the end of one process of a worker.
type Death struct {
	Key     string // tells this end from another of the same worker
	ID      string
	At      time.Time
	Cause   string // refused, process_gone, …
	Reason  string
	Queues  []string
	Address string // host:port; empty: none
	Host    string
	Tasks   int // that were taken back from it
}

// Serves names the queues that it served.
func (d Death) Serves() string { return strings.Join(d.Queues, ", ") }

// Health is the health of this process, the first thing on the page: the public one, without lines of stderr, with a
// label and a tone.
type Health struct {
	status.Health
	Report status.Mark // of the report that this is
	Tone   Tone
	Label  string    // Healthy, Starting, Degraded, Draining, Unhealthy, …
	Since  time.Time // when the label became what it is; zero when unknown
}

// Process is the Python process.
type Process struct {
	Tone     Tone
	Status   string // running, stalled, crashed, restarting, degraded, …
	PID      int    // 0: there is none
	Python   string // "CPython 3.11.7"; empty while unknown
	Handlers string // sync or async; empty while unknown
	Started  time.Time
	Memory   int64   // resident bytes; negative while unknown
	CPU      float64 // share of one core over the last seconds, 1 is all of it; negative while unknown

	Lag       time.Duration
	LagLimit  time.Duration // above it the process counts as stalled
	Crashes   int
	Restarts  int
	OnCrash   string   // degrade, restart or exit
	Stderr    []string // its last lines; only for the trusted
	Stack     string   // where it was when it was found hanging; empty: it was not; only for the trusted
	StackAt   time.Time
	CanAct    bool   // the restart button is shown
	CanAsk    bool   // the buttons that show where tasks are, are shown
	MemoryMax int64  // python.max_memory; 0: none
	TooLarge  string // why it is not replaced although it is above that; empty: it is not, or will be
}

// Queues are all queues that are served here.
type Queues struct {
	Err  string    // why they could not be read; what is shown is then the last that was
	At   time.Time // of the last good reading; zero: there was none
	List []Queue
	More int   // how many are not shown
	Rest Queue // their Pending, Active and Latency together
	// Elsewhere are queues that are not this worker's, and of which tasks wait for nobody.
	Elsewhere []Queue
}

// Queue is one queue now and over the last fifteen minutes.
type Queue struct {
	status.Depth
	Name     string
	Tone     Tone
	Fault    string // which of its tasks nobody takes, and why; empty: none
	Stranded int64  // how many these are

	PendingChart Chart // over the history, oldest first
	LatencyChart Chart // in seconds
}

// Problem says why the queue could not be read; empty when it could.
func (q Queue) Problem() string {
	if q.Err == nil {
		return ""
	}
	return q.Err.Error()
}

// Load is what this worker has done over the last fifteen minutes.
type Load struct {
	Processed, Failed int64         // attempts since the worker started
	Rate              float64       // finished attempts a second over the last minute
	FailedShare       float64       // of them, 0 to 1; negative: nothing finished
	P50, P95          time.Duration // of what finished in the last fifteen minutes; negative: nothing did

	RateChart   Chart // finished attempts a second
	FailedChart Chart // failed attempts a second
	P50Chart    Chart // in seconds, on the scale of P95Chart
	P95Chart    Chart
}

// Active is what the Python process works on.
type Active struct {
	Concurrency int
	Tasks       []ActiveTask // the longest-running first
	More        int          // how many are not shown
}

// ActiveTask is one task in the Python process.
type ActiveTask struct {
	ID, Queue, Type string
	Running         time.Duration
	Progress        float64       // 0 to 1; negative: the handler reported none
	Message         string        // of the progress; only for the trusted
	Payload         string        // only if View.Payloads
	Idle            time.Duration // for so long its process has used no CPU time and it reported no progress; 0: it is not marked
}

// Failures are tasks that failed lately and wait for their next attempt or in the archive.
type Failures struct {
	Err             string
	At              time.Time // of the last good reading; zero: there was none
	List            []Failure // the latest first
	Retry, Archived int64     // how many there are in all
}

// Failure is one failed task.
type Failure struct {
	ID, Queue, Type string
	State           status.TaskState // retry or archived
	Attempts        int              // that were made
	MaxAttempts     int
	FailedAt        time.Time
	NextAt          time.Time // of the next attempt; zero when archived
	Error           string    // the first line; only for the trusted
	Traceback       string    // what follows it; only for the trusted
	Payload         string    // only if View.Payloads
}

// GivenUp reports whether the task is in the archive.
func (f Failure) GivenUp() bool { return f.State == status.Archived }

// Fleet are all workers of the registry.
type Fleet struct {
	Err                         string
	At                          time.Time // of the last good reading; zero: there was none
	Free, Busy, Dead, Unhealthy int       // Unhealthy: with a heartbeat that says that they are not healthy
	Serving, Starting           int       // that take tasks, and that are about to
	Workers                     []Worker  // those that need attention first, then by id
	More                        int       // how many are not shown
}

// Worker is one worker of the fleet.
type Worker struct {
	ID                  string
	Self                bool // this one
	Tone                Tone
	State               status.State // FREE, BUSY or DEAD
	Serving             bool         // it takes the tasks of its queues, now or when a slot is free
	Starting            bool         // it is about to
	Status              status.Status
	Reason              string // why it is not FREE, its first line
	Queues              []string
	Unreachable         string // why this process's own worker cannot be pinged; of the others that is the Reason
	Address             string // host:port; empty: none
	Host                string
	Active, Concurrency int
	Processed, Failed   int64
	BeatAge             time.Duration // since its last heartbeat; negative: it has none any more
	DeadSince           time.Time     // when it was found dead; zero unless it is
	Started             time.Time
	Version             string
}

// Chart is a series of measurements over the history, drawn by the template as paths of an SVG.
type Chart struct {
	Label  string    // what is drawn, for screen readers: "pending tasks, 15 minutes, now 3, most 120"
	Values []float64 // oldest first, one per sample of the history; NaN: nothing was measured
	Top    float64   // of the scale; at least the largest value
}
