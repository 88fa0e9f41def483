package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/receipt"
	"github.com/runqy/runqy-worker/queue"
)

// Recoverer gives a dead worker's tasks back to their queues; queue.Recoverer is the real one.
type Recoverer interface {
	OfProcess(ctx context.Context, queue, workerID, nonce string) (queue.Recovered, error)
	Lapsed(ctx context.Context, queue string, alive func(workerID, nonce string) bool, margin time.Duration) (queue.Recovered, error)
}

// Directs gives tasks that wait for one worker back to all; queue.Directs is the real one.
type Directs interface {
	Return(ctx context.Context, queue string, fate func(workerID string) queue.DirectFate) (int, error)
}

// Observer is told what happens; its functions may be nil. They are called from several goroutines at once.
type Observer struct {
	Died      func(cause string) // the death of a process was recorded, for the first time
	Recovered func(queue, reason string, n int)
	Queues    func([]string) // these are swept; before any of their tasks is recovered
}

// Options are what a [Service] works with. All but Pinger, Queues and Observer are required.
type Options struct {
	ID          string             // of this process, in the lease of the leader
	Self        heartbeat.Identity // of this process
	Interval    time.Duration      // between two rounds
	PingTimeout time.Duration
	Queues      []string // this process's own: swept even if no worker serves them, and without a leader by Watch
	// AskEvery is how often the lease is asked for while another process has it: for a process whose Receipt has to be
	// young. 0: when that one's should be over.
	AskEvery time.Duration
	// Running returns how much of the time between two moments this process was running: in a pause of the whole process
	// nothing can get through. nil: all of it.
	Running func(since, now time.Time) time.Duration

	Registry    Registry
	Lease       Lease
	Checkpoints CheckpointStore
	Deaths      DeathStore
	Pinger      Pinger // nil: workers are classified by their heartbeats alone
	Recoverer   Recoverer
	Directs     Directs
	Observer    Observer
	Logger      *slog.Logger
}

// Service takes part in the election of the leader, and does the leader's work while this process is it. Run and Watch
// are called once each, if at all; the other methods may be called from any goroutine.
type Service struct {
	opts    Options
	elector *elector
	current atomic.Pointer[Checker] // nil while another process is the leader

	rounds   receipt.Log // of the leader's rounds
	returned tally       // tasks of dead workers
}

// New returns a Service that does not take part in the election before Run.
func New(opts Options) (*Service, error) {
	switch {
	case opts.ID == "" || opts.Self.Nonce == "":
		return nil, errors.New("fleet: the process has no id or nonce to be elected with")
	case opts.Interval <= 0:
		return nil, errors.New("fleet: the interval between two rounds is not more than 0")
	case opts.Registry == nil || opts.Lease == nil || opts.Checkpoints == nil || opts.Deaths == nil || opts.Recoverer == nil || opts.Directs == nil || opts.Logger == nil:
		return nil, errors.New("fleet: a required part is missing in Options")
	}
	if opts.Observer.Died == nil {
		opts.Observer.Died = func(string) {}
	}
	if opts.Observer.Recovered == nil {
		opts.Observer.Recovered = func(string, string, int) {}
	}
	if opts.Observer.Queues == nil {
		opts.Observer.Queues = func([]string) {}
	}
	opts.Logger = opts.Logger.With("component", "fleet")
	s := &Service{opts: opts, rounds: receipt.Log{Running: opts.Running}}
	s.elector = newElector(opts.Lease, opts.ID+"|"+opts.Self.Nonce, opts.Interval, opts.Logger)
	s.elector.askEvery, s.elector.receipts.Running = opts.AskEvery, opts.Running
	return s, nil
}

// Run takes part in the election, and leads while this process is elected, until ctx ends. When it returns, which is
// nil, the lease is released and nothing goes on. It needs about three seconds for that when Redis does not answer.
func (s *Service) Run(ctx context.Context) error {
	s.elector.run(ctx, s.lead)
	return nil
}

// Receipt is what a Service has got through of its own work.
type Receipt struct {
	Answered time.Time        // when the last request for the lease that Redis has answered was begun; zero: none has
	Lease    *receipt.Failure // why the lease is neither given nor refused; nil: it is one of the two
	Round    *receipt.Failure // why the leader's rounds and sweeps fail; nil: they do not, or another process is the leader
}

// Receipt tells what comes of the work of Run at present. It never blocks.
func (s *Service) Receipt() Receipt {
	now := time.Now()
	return Receipt{Answered: s.elector.receipts.Last(), Lease: s.elector.receipts.Judge(now), Round: s.rounds.Judge(now)}
}

// States counts the workers by state; nil while another process is the leader.
func (s *Service) States() map[string]int {
	if c := s.current.Load(); c != nil {
		return c.Counts()
	}
	return nil
}

// Workers returns each worker as it was classified last, which may be as old as its Seen tells; nil while another
// process is the leader.
func (s *Service) Workers() []Worker {
	if c := s.current.Load(); c != nil {
		return c.Workers()
	}
	return nil
}

// AllWorkers is Workers once this process, as the leader, has classified every worker, with the time at which the registry
// was last read; before, it returns nil. [Service.Stale] tells whether that is too long ago.
func (s *Service) AllWorkers() (workers []Worker, read time.Time) {
	if c := s.current.Load(); c != nil && c.Complete() {
		read = c.Read()
		return c.Workers(), read
	}
	return nil, time.Time{}
}

// minFresh is for how long at least a list of the workers counts as the present.
const minFresh = 5 * time.Second

// Stale returns an error when what was read of the registry at that time does not describe the present: three rounds have
// read nothing since.
func (s *Service) Stale(read time.Time) error {
	if age := time.Since(read); age > max(3*s.opts.Interval, minFresh) {
		return fmt.Errorf("the workers were read %s ago, and could not be since", age.Round(time.Second))
	}
	return nil
}
