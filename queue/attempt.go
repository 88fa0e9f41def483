package queue

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// attempt is one run of one task, from the take to when Redis has applied its outcome. Its fields belong to the loop,
// but for those of the first block, which never change, and of progress.
type attempt struct {
	loop  *loop
	task  *Task
	raw   []byte // asynq's message as it was stored
	owner string // the stamp: worker id, nonce of this process, number of the cycle and of the take in it
	taken time.Time
	// waited is for how long the task had been pending when it was taken, by Redis' clock: ours may be another. Without
	// meaning where Task.Enqueued is zero.
	waited time.Duration
	order  uint64 // of the takes

	submitted bool
	began     time.Time // when the handler began; zero before
	ended     bool
	deadline  time.Time // from when it began
	heapIndex int       // in the loop's deadlines; -1: not in there
	cause     error     // why it was cancelled; nil: it was not
	postponed int       // how often it has been put off because it has to run alone
	alone     bool      // it was given to the handler as the only one

	viewed   time.Time // when its readable hash was last written; zero: never
	progress progress
}

// progress is how far a handler says it has come.
type progress struct {
	changed  bool // since it was last written
	reported bool // a fraction was
	fraction float64
	message  string
}

// Began implements Attempt.
func (a *attempt) Began(at time.Time) {
	a.loop.table.begin(a, at, effectiveDeadline(a.task.timeoutSeconds, a.task.deadlineUnix, at))
	a.loop.inbox.put(event{kind: eventBegan, attempt: a, at: at})
}

// Ended implements Attempt.
func (a *attempt) Ended(result json.RawMessage, took time.Duration, err error) {
	a.loop.inbox.put(event{kind: eventEnded, attempt: a, result: result, took: took, err: err})
}

// Progress implements Attempt.
func (a *attempt) Progress(fraction float64, message string) {
	if a.loop.table.report(a, fraction, message) {
		a.loop.inbox.put(event{kind: eventProgress, attempt: a})
	}
}

// attemptTable is what other goroutines may read of the attempts: which there are, and what they report.
type attemptTable struct {
	prefix string // worker id and nonce, in front of every owner stamp

	mu       sync.Mutex // guards the rest, and of each attempt submitted, began, deadline, ended and progress
	attempts map[take]*attempt
	handling int               // of these are with the handler
	asking   map[string]uint64 // by queue: the lowest number of a cycle that is under way; 0: none
}

// take names an attempt: each queue counts its cycles, so an owner stamp is unique in its queue only.
type take struct{ queue, owner string }

func (a *attempt) take() take { return take{a.task.Queue, a.owner} }

func newAttemptTable(workerID, nonce string) *attemptTable {
	return &attemptTable{
		prefix: workerID + "|" + nonce + "|", attempts: make(map[take]*attempt), asking: make(map[string]uint64),
	}
}

// add registers what a cycle has taken, and that this cycle is over; asking is the lowest number of those that are not.
func (t *attemptTable) add(queue string, taken []*attempt, asking uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asking[queue] = asking
	for _, a := range taken {
		t.attempts[a.take()] = a
	}
}

// ask notes that cycles with this number and greater ones are under way: what carries such a number is not lost.
func (t *attemptTable) ask(queue string, number uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asking[queue] = number
}

// begin notes that a handler has begun, and by when it has to end.
func (t *attemptTable) begin(a *attempt, at, deadline time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a.began, a.deadline = at, deadline
}

// remove forgets attempts whose outcome Redis has applied.
func (t *attemptTable) remove(ended []*attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range ended {
		delete(t.attempts, a.take())
	}
}

// holds reports whether an owner stamp of this process names an attempt that is held, or one that a cycle under way may
// bring.
func (t *attemptTable) holds(queue, owner string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.attempts[take{queue, owner}] != nil {
		return true
	}
	number, _, _ := strings.Cut(strings.TrimPrefix(owner, t.prefix), ".")
	n, err := strconv.ParseUint(number, 10, 64)
	return err == nil && t.asking[queue] != 0 && n >= t.asking[queue]
}

// held returns the attempts by queue.
func (t *attemptTable) held() map[string][]*attempt {
	t.mu.Lock()
	defer t.mu.Unlock()
	byQueue := make(map[string][]*attempt)
	for _, a := range t.attempts {
		byQueue[a.task.Queue] = append(byQueue[a.task.Queue], a)
	}
	return byQueue
}

// report keeps what a handler says about its progress, and reports whether that is news to the loop.
func (t *attemptTable) report(a *attempt, fraction float64, message string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if fraction >= 0 {
		a.progress.reported, a.progress.fraction = true, min(fraction, 1)
	}
	a.progress.message = message
	was := a.progress.changed
	a.progress.changed = true
	return !was
}

// takeProgress returns what was reported and not yet written.
func (t *attemptTable) takeProgress(a *attempt) (p progress, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p = a.progress
	a.progress.changed = false
	return p, p.changed
}

// active returns what Consumer.Active does.
func (t *attemptTable) active() []ActiveTask {
	t.mu.Lock()
	defer t.mu.Unlock()
	runs := make([]*attempt, 0, max(0, t.handling))
	for _, a := range t.attempts {
		if a.submitted && !a.ended {
			runs = append(runs, a)
		}
	}
	slices.SortFunc(runs, func(x, y *attempt) int {
		if x.began.IsZero() != y.began.IsZero() {
			if x.began.IsZero() {
				return 1
			}
			return -1
		}
		return cmp.Or(x.began.Compare(y.began), cmp.Compare(x.order, y.order))
	})
	out := make([]ActiveTask, len(runs))
	for i, a := range runs {
		out[i] = ActiveTask{
			ID: a.task.ID, Queue: a.task.Queue, Type: a.task.Type, Since: a.taken, Started: a.began,
			Progress: -1, ProgressMessage: a.progress.message, Payload: a.task.Payload, deadline: a.deadline,
		}
		if a.progress.reported {
			out[i].Progress = a.progress.fraction
		}
	}
	return out
}

// end marks an attempt as over for those who ask what is active.
func (t *attemptTable) end(a *attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.submitted && !a.ended {
		t.handling--
	}
	a.ended = true
}

// submit marks an attempt as one that is with the handler.
func (t *attemptTable) submit(a *attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a.submitted = true
	t.handling++
}

// count returns how many attempts are with the handler.
func (t *attemptTable) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.handling
}

// failedMessage is what asynq's message says after a failure.
func (a *attempt) failedMessage(text string, counted bool) []byte {
	return (&message{Retried: a.task.RetryCount}).failed(a.raw, text, counted)
}
