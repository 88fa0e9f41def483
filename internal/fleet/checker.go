package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/status"
)

// maxPings bounds how many pings are under way at once, so that a very large fleet does not use up the process's file
// descriptors. Below it every worker is asked at the same time.
const maxPings = 4096

// readTimeout bounds one reading of the registry.
const readTimeout = 10 * time.Second

// Registry is where workers are registered. [Store] is the real one.
type Registry interface {
	List(ctx context.Context) ([]heartbeat.Worker, error)
	Get(ctx context.Context, id string) (heartbeat.Worker, bool, error)
	// Forget strikes a dead worker off, unless it has beaten since it was read.
	Forget(ctx context.Context, w heartbeat.Worker) error
}

// CheckerOptions say whom a [Checker] asks, and who is told.
type CheckerOptions struct {
	Registry Registry
	// Pinger asks the workers that have an address; nil: all are judged by their heartbeats alone.
	Pinger      Pinger
	PingTimeout time.Duration      // of each worker by itself; default 3 s
	Self        heartbeat.Identity // of this process: whose processes it can prove to be gone
	// Confirm is how long a heartbeat that has vanished may be a clean stop in progress. With it, a worker newly found
	// dead is read from the registry a second time before it is called so. 0: the first look counts.
	Confirm time.Duration
	Logger  *slog.Logger // default: none

	Died   func(cause string)            // a worker was found dead; may be nil
	Judged func(context.Context, Worker) // each judgement, from the goroutine that made it; may be nil
}

// Checker judges the registered workers and remembers them from one round to the next. Its methods may be called from
// any goroutine.
type Checker struct {
	opts CheckerOptions
	slot chan struct{} // one element per ping under way

	mu      sync.Mutex // guards the rest
	workers map[string]*entry
}

// entry is what is remembered of one worker.
type entry struct {
	beat    heartbeat.Beat // the last one seen
	missing time.Time      // since when it has no heartbeat; zero while it has
	busy    bool           // it is being asked
	old     bool           // an earlier checker knew it
	judged  bool
	last    Worker // the last judgement
}

// NewChecker returns a Checker that knows nobody yet.
func NewChecker(opts CheckerOptions) *Checker {
	if opts.PingTimeout <= 0 {
		opts.PingTimeout = 3 * time.Second
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Checker{opts: opts, slot: make(chan struct{}, maxPings), workers: make(map[string]*entry)}
}

// Round reads the registry, asks every worker at the same time and returns the judgements by id when the last one is
// made. It takes little longer than the ping timeout. An error means that the registry could not be read, or ctx ended.
func (c *Checker) Round(ctx context.Context) ([]Worker, error) {
	list, err := c.list(ctx)
	if err != nil {
		return nil, err
	}
	var asking sync.WaitGroup
	c.begin(ctx, list, true, &asking)
	asking.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("ask the workers: %w", err)
	}
	return c.Workers(), nil
}

// Look judges one worker afresh, by its entry in the registry and a ping, without remembering the result.
func (c *Checker) Look(ctx context.Context, id string) (Worker, bool, error) {
	w, known, err := c.opts.Registry.Get(ctx, id)
	if err != nil || !known {
		return Worker{}, false, err
	}
	return judge(c.look(ctx, w, false)), true, nil
}

// Workers returns the last judgement of each worker, by id.
func (c *Checker) Workers() []Worker {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Worker, 0, len(c.workers))
	for _, e := range c.workers {
		if e.judged {
			out = append(out, e.last)
		}
	}
	slices.SortFunc(out, func(a, b Worker) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Counts returns how many workers are in each state.
func (c *Checker) Counts() map[string]int {
	counts := map[string]int{string(status.Free): 0, string(status.Busy): 0, string(status.Dead): 0}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.workers {
		if e.judged {
			counts[string(e.last.State)]++
		}
	}
	return counts
}

func (c *Checker) list(ctx context.Context) ([]heartbeat.Worker, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return c.opts.Registry.List(ctx)
}

// remember gives the Checker the last beats of workers that it has not seen itself.
func (c *Checker) remember(beats map[string]heartbeat.Beat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, beat := range beats {
		if c.workers[id] == nil {
			c.workers[id] = &entry{beat: beat, old: true}
		}
	}
}

// begin asks every worker of the list that is not still being asked; the goroutines are asking's. calm says that Redis
// has been well for so long that every live worker has beaten: only then does a missing heartbeat count as silence.
func (c *Checker) begin(ctx context.Context, list []heartbeat.Worker, calm bool, asking *sync.WaitGroup) {
	now := time.Now()
	c.forgetOthers(list)
	for _, w := range list {
		if w.Err != nil && !w.Alive && c.knows(w.ID) {
			continue // Redis could not tell: what was known stands
		}
		w, ok := c.enter(w, now)
		if !ok {
			continue
		}
		asking.Go(func() {
			defer c.leave(w.ID)
			select {
			case c.slot <- struct{}{}:
				defer func() { <-c.slot }()
			case <-ctx.Done():
				return
			}
			c.ask(ctx, w, now, calm)
		})
	}
}

// forgetOthers drops everybody who is not registered any more.
func (c *Checker) forgetOthers(list []heartbeat.Worker) {
	registered := make(map[string]bool, len(list))
	for _, w := range list {
		registered[w.ID] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, e := range c.workers {
		if registered[id] || e.busy {
			continue
		}
		delete(c.workers, id)
		if e.judged && e.last.State != status.Dead {
			c.opts.Logger.Info("a worker has left the fleet", "worker", id)
		}
	}
}

func (c *Checker) knows(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.workers[id] != nil
}

// enter notes what the registry says of a worker and marks it as being asked, which is refused when it is already. The
// result has the last beat that was seen.
func (c *Checker) enter(w heartbeat.Worker, now time.Time) (heartbeat.Worker, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.workers[w.ID]
	if e == nil {
		e = &entry{}
		c.workers[w.ID] = e
	}
	if e.busy {
		return w, false
	}
	e.busy = true
	return e.note(w, now), true
}

// note takes over a worker's beat, or adds the remembered one to a worker that has none. The caller holds mu.
func (e *entry) note(w heartbeat.Worker, now time.Time) heartbeat.Worker {
	if w.Alive {
		e.beat, e.missing = w.Beat, time.Time{}
		return w
	}
	if e.missing.IsZero() {
		e.missing = now
	}
	w.Beat = e.beat
	return w
}

func (c *Checker) leave(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.workers[id]; e != nil {
		e.busy = false
	}
}

// ask pings one worker, whose entry was read at seen, and judges it.
func (c *Checker) ask(ctx context.Context, w heartbeat.Worker, seen time.Time, calm bool) {
	verdict := judge(c.look(ctx, w, calm))
	if verdict.State == status.Dead && c.opts.Confirm > 0 && !c.isDead(w.ID) {
		now := time.Now()
		again, there, err := c.again(ctx, w)
		switch {
		case err != nil: // Redis does not answer; the next round tells more
		case !there:
			c.drop(w.ID)
			return
		case again.Alive && (again.Beat.Nonce != w.Beat.Nonce || !w.Alive || again.Beat.Status != w.Beat.Status):
			// It has been replaced, come back or begun to stop since it was read.
			verdict, seen = judge(c.look(ctx, again, calm)), now
		}
	}
	if ctx.Err() != nil {
		return // an interrupted ping says nothing about the worker
	}
	verdict.Seen = seen
	c.record(verdict)
	if c.opts.Judged != nil {
		c.opts.Judged(ctx, verdict)
	}
}

// look gathers what there is to know about a worker.
func (c *Checker) look(ctx context.Context, w heartbeat.Worker, calm bool) sighting {
	s := sighting{worker: w, silent: silent(w) || c.lost(w, calm), gone: heartbeat.Gone(c.opts.Self, w.Beat.Identity)}
	if s.gone || c.opts.Pinger == nil || w.Beat.Address == "" {
		return s
	}
	ctx, cancel := context.WithTimeout(ctx, c.opts.PingTimeout)
	defer cancel()
	s.asked = true
	s.pong, s.err = c.opts.Pinger.Ping(ctx, w.Beat.Address)
	return s
}

// lost tells whether a worker without a heartbeat has missed two of its intervals: its heartbeat would have lived that
// long, or it has been missing for that long.
func (c *Checker) lost(w heartbeat.Worker, calm bool) bool {
	if w.Alive || w.Err != nil || !calm || w.Beat.Interval <= 0 {
		return false
	}
	return w.Beat.TTL >= 2*w.Beat.Interval || c.missingFor(w.ID) >= 2*w.Beat.Interval
}

// missingFor returns for how long this Checker has seen no heartbeat of a worker; 0 while it has one.
func (c *Checker) missingFor(id string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.workers[id]; e != nil && !e.missing.IsZero() {
		return time.Since(e.missing)
	}
	return 0
}

func (c *Checker) isDead(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.workers[id]
	return e != nil && e.judged && e.last.State == status.Dead
}

// again reads a worker's entry a second time, and without a heartbeat a third time after a moment: a clean stop deletes
// the heartbeat first and the entry then.
func (c *Checker) again(ctx context.Context, w heartbeat.Worker) (again heartbeat.Worker, there bool, err error) {
	again, there = w, true
	if w.Alive {
		again, there, err = c.read(ctx, w.ID)
	}
	if err == nil && there && !again.Alive {
		sleep(ctx, c.opts.Confirm)
		again, there, err = c.read(ctx, w.ID)
	}
	if err != nil || !there {
		return w, there, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.workers[w.ID]; e != nil {
		again = e.note(again, time.Now())
	}
	return again, true, nil
}

func (c *Checker) read(ctx context.Context, id string) (heartbeat.Worker, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return c.opts.Registry.Get(ctx, id)
}

// drop forgets a worker that has left in the meantime.
func (c *Checker) drop(id string) {
	c.mu.Lock()
	e := c.workers[id]
	delete(c.workers, id)
	c.mu.Unlock()
	if e != nil && e.judged && e.last.State != status.Dead {
		c.opts.Logger.Info("a worker has left the fleet", "worker", id)
	}
}

// record keeps a judgement, and tells when it differs in kind from the one before.
func (c *Checker) record(w Worker) {
	c.mu.Lock()
	e := c.workers[w.ID]
	if e == nil {
		c.mu.Unlock()
		return
	}
	before, known, old := e.last, e.judged, e.old
	e.last, e.judged = w, true
	c.mu.Unlock()

	log := c.opts.Logger.With("worker", w.ID, "host", w.Beat.Host, "address", w.Beat.Address)
	died := w.State == status.Dead && (!known || before.State != status.Dead)
	switch {
	case died:
		log.Warn("a worker is DEAD", "cause", w.Cause, "reason", w.Reason, "proven", w.Proven)
	case w.State == status.Dead && known && (before.Cause != w.Cause || before.Proven != w.Proven):
		log.Info("a worker is still DEAD", "cause", w.Cause, "reason", w.Reason, "proven", w.Proven)
	case w.State != status.Dead && known && before.State == status.Dead:
		log.Info("a worker is back", "state", w.State, "reason", w.Reason)
	case !known && !old && w.State != status.Dead:
		log.Info("a worker has joined the fleet", "state", w.State, "reason", w.Reason)
	case known && before.State != w.State:
		log.Debug("a worker has changed", "state", w.State, "reason", w.Reason)
	}
	if died && c.opts.Died != nil {
		c.opts.Died(w.Cause)
	}
}
