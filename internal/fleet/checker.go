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
	"github.com/runqy/runqy-worker/internal/timer"
)

// maxPings bounds how many pings are under way at once, so that a very large fleet does not use up the process's file
// descriptors. Below it every worker is pinged at the same time.
const maxPings = 4096

// readTimeout bounds one reading of the registry.
const readTimeout = 10 * time.Second

// Registry is where workers are registered. [Store] is the real one.
type Registry interface {
	List(ctx context.Context) ([]heartbeat.Worker, error)
	Get(ctx context.Context, id string) (heartbeat.Worker, bool, error)
	// Beats reports whether that process of a worker has a heartbeat at this moment, registered or not.
	Beats(ctx context.Context, id, nonce string) (bool, error)
	// Forget removes a dead worker, unless it has written a heartbeat since it was read.
	Forget(ctx context.Context, w heartbeat.Worker) error
}

// Reaper takes care of a worker whose death is proven.
type Reaper interface {
	// Reap begins with it and returns at once. It is called for the same worker in every round in which its death is
	// proven, from many goroutines at once.
	Reap(ctx context.Context, w Worker)
}

// CheckerOptions are what a [Checker] works with. All but Registry may be left out.
type CheckerOptions struct {
	Registry Registry
	// Pinger pings the workers that have an address; nil: all are classified by their heartbeats alone.
	Pinger      Pinger
	PingTimeout time.Duration      // of each worker by itself; default 3 s
	Self        heartbeat.Identity // of this process: whose processes it can prove to be gone
	// Confirm is how long a heartbeat that has vanished may be a clean stop in progress. With it, a worker that is
	// newly found dead is read from the registry a second time before it is called so. 0: the first observation counts.
	Confirm time.Duration
	Reaper  Reaper // gets every worker whose death is proven, right after it was classified; nil: nobody
	// Lost gets each worker that is newly found dead, proven or not, before Reaper does. It may block for a moment. It is
	// not called while a missing heartbeat may be Redis' fault. Nil: nobody.
	Lost func(ctx context.Context, w Worker)
	// Succeeded gets a worker that was found dead and silent, as it was then, when another process has its id. It may block
	// for a moment. Nil: nobody.
	Succeeded func(ctx context.Context, dead Worker)
	Logger    *slog.Logger // default: none
}

// Checker classifies the registered workers, and keeps the last result of each from one round to the next. Its methods
// may be called from any goroutine.
type Checker struct {
	opts CheckerOptions
	slot chan struct{} // one element per ping under way

	mu      sync.Mutex // guards the rest
	workers map[string]*entry
	read    time.Time // when the registry was last read by a round; zero: it was not
	known   bool      // and each worker that it found has been classified since
}

// entry is what the Checker keeps of one worker.
type entry struct {
	beat       heartbeat.Beat // the last one seen
	missing    time.Time      // since when it has no heartbeat; zero while it has
	checking   bool           // a round checks it now
	inherited  bool           // from the checkpoint of an earlier leader
	classified bool
	last       Worker // as it was classified last
}

// NewChecker returns a Checker that knows no worker yet.
func NewChecker(opts CheckerOptions) *Checker {
	if opts.PingTimeout <= 0 {
		opts.PingTimeout = 3 * time.Second
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Checker{opts: opts, slot: make(chan struct{}, maxPings), workers: make(map[string]*entry)}
}

// Round reads the registry, pings every worker at the same time and returns the workers by id when the last one is
// classified. It blocks for little longer than the ping timeout. An error means that the registry could not be read, or
// that ctx ended.
func (c *Checker) Round(ctx context.Context) ([]Worker, error) {
	list, err := c.list(ctx)
	if err != nil {
		return nil, err
	}
	var checks sync.WaitGroup
	round{Checker: c, read: time.Now(), settled: true}.start(ctx, list, &checks)
	checks.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("ask the workers: %w", err)
	}
	return c.Workers(), nil
}

// Inspect classifies one worker by its entry in the registry and a ping, without keeping the result. It blocks for at
// most the ping timeout after the registry has answered. False means that the worker is not registered.
func (c *Checker) Inspect(ctx context.Context, id string) (Worker, bool, error) {
	w, known, err := c.opts.Registry.Get(ctx, id)
	if err != nil || !known {
		return Worker{}, false, err
	}
	return classify(round{Checker: c}.observe(ctx, w)), true, nil
}

// Workers returns each worker as it was classified last, by id.
func (c *Checker) Workers() []Worker {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Worker, 0, len(c.workers))
	for _, e := range c.workers {
		if e.classified {
			out = append(out, e.last)
		}
	}
	slices.SortFunc(out, func(a, b Worker) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Read returns when the registry was last read by a round; zero when it was not.
func (c *Checker) Read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read
}

// Complete reports whether all workers have been classified that the first round found: before, Workers may be without
// some.
func (c *Checker) Complete() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known && !c.read.IsZero() {
		c.known = true
		for _, e := range c.workers {
			c.known = c.known && e.classified
		}
	}
	return c.known
}

// Counts returns how many workers are in each state.
func (c *Checker) Counts() map[string]int {
	counts := map[string]int{string(status.Free): 0, string(status.Busy): 0, string(status.Dead): 0}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.workers {
		if e.classified {
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

func (c *Checker) get(ctx context.Context, id string) (heartbeat.Worker, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return c.opts.Registry.Get(ctx, id)
}

// restore gives the Checker the last beats of workers that it has not seen itself.
func (c *Checker) restore(beats map[string]heartbeat.Beat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, beat := range beats {
		if c.workers[id] == nil {
			c.workers[id] = &entry{beat: beat, inherited: true}
		}
	}
}

// round is one pass over the registry. Each worker in it is observed, classified, recorded and, if its death is proven,
// given to the reaper, in a goroutine of its own: a worker that is slow to answer delays no other.
type round struct {
	*Checker
	read time.Time // when the registry was read
	// settled says that Redis has answered for so long that every live worker has written its heartbeat since: only
	// then does a missing heartbeat count as silence.
	settled bool
}

// start begins to check every worker of the list that no earlier round is still checking; the goroutines are checks'.
func (r round) start(ctx context.Context, list []heartbeat.Worker, checks *sync.WaitGroup) {
	r.dropUnregistered(list)
	for _, w := range list {
		if w.Err != nil && !w.Alive && r.knows(w.ID) {
			continue // Redis could not tell: what was known stands
		}
		w, ok := r.begin(w)
		if !ok {
			continue
		}
		checks.Go(func() {
			defer r.end(w.ID)
			select {
			case r.slot <- struct{}{}:
				defer func() { <-r.slot }()
			case <-ctx.Done():
				return
			}
			r.check(ctx, w)
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Checker.read = r.read
}

// begin marks a worker as being checked, and reports false when it is already. The result has the last beat that was
// seen.
func (r round) begin(w heartbeat.Worker) (heartbeat.Worker, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.workers[w.ID]
	if e == nil {
		e = &entry{}
		r.workers[w.ID] = e
	}
	if e.checking {
		return w, false
	}
	e.checking = true
	return e.withLastBeat(w, r.read), true
}

func (r round) end(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.workers[id]; e != nil {
		e.checking = false
	}
}

// check observes one worker, classifies it and records the result. A proven death goes on to the reaper.
func (r round) check(ctx context.Context, w heartbeat.Worker) {
	read := r.read
	result := classify(r.observe(ctx, w))
	if result.State == status.Dead && r.opts.Confirm > 0 && !r.isDead(w.ID) {
		now := time.Now()
		confirmed, registered, err := r.confirm(ctx, w)
		switch {
		case err != nil: // Redis does not answer; the next round tells more
		case !registered:
			r.drop(w.ID)
			return
		case confirmed.Alive && (confirmed.Beat.Nonce != w.Beat.Nonce || !w.Alive || confirmed.Beat.Status != w.Beat.Status):
			// It has been replaced, come back or begun to stop since it was read.
			result, read = classify(r.observe(ctx, confirmed)), now
		}
	}
	if ctx.Err() != nil {
		return // an interrupted ping says nothing about the worker
	}
	result.Seen = read
	if before, known := r.find(w.ID); known && r.opts.Succeeded != nil && r.settled && before.succeededBy(result) {
		r.opts.Succeeded(ctx, before)
	}
	result, died := r.record(result)
	if died && r.opts.Lost != nil && (r.settled || result.Alive) {
		r.opts.Lost(ctx, result)
	}
	if result.Proven && r.opts.Reaper != nil {
		r.opts.Reaper.Reap(ctx, result)
	}
}

// succeededBy reports whether the worker was silent and dead, and now is another process. One that stops cleanly writes its
// heartbeat until it leaves.
func (w Worker) succeededBy(now Worker) bool {
	return w.State == status.Dead && (!w.Alive || silent(w.Worker)) && w.Beat.Nonce != "" && now.Alive && now.Beat.Nonce != w.Beat.Nonce
}

// observe gathers what there is to know about a worker.
func (r round) observe(ctx context.Context, w heartbeat.Worker) observation {
	o := observation{worker: w, silent: silent(w) || r.lost(w), gone: heartbeat.Gone(r.opts.Self, w.Beat.Identity)}
	if o.gone || r.opts.Pinger == nil || w.Beat.Address == "" {
		return o
	}
	ctx, cancel := context.WithTimeout(ctx, r.opts.PingTimeout)
	defer cancel()
	o.pinged = true
	o.pong, o.err = r.opts.Pinger.Ping(ctx, w.Beat.Address)
	return o
}

// lost reports whether a worker without a heartbeat has missed two of its intervals: its heartbeat would have lived
// that long, or it has been missing for that long.
func (r round) lost(w heartbeat.Worker) bool {
	if w.Alive || w.Err != nil || !r.settled || w.Beat.Interval <= 0 {
		return false
	}
	return w.Beat.TTL >= 2*w.Beat.Interval || r.missingFor(w.ID) >= 2*w.Beat.Interval
}

// confirm reads a worker's entry a second time, and without a heartbeat a third time after a moment: a clean stop
// deletes the heartbeat first and the entry then.
func (r round) confirm(ctx context.Context, w heartbeat.Worker) (now heartbeat.Worker, registered bool, err error) {
	now, registered = w, true
	if w.Alive {
		now, registered, err = r.get(ctx, w.ID)
	}
	if err == nil && registered && !now.Alive {
		_ = timer.Sleep(ctx, r.opts.Confirm) // when ctx ends, so does the reading that follows
		now, registered, err = r.get(ctx, w.ID)
	}
	if err != nil || !registered {
		return w, registered, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.workers[w.ID]; e != nil {
		now = e.withLastBeat(now, time.Now())
	}
	return now, true, nil
}

// withLastBeat keeps the beat of a worker that has one, and gives the last one seen to a worker that has none at now.
// The caller holds mu.
func (e *entry) withLastBeat(w heartbeat.Worker, now time.Time) heartbeat.Worker {
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

func (c *Checker) knows(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.workers[id] != nil
}

// find returns a worker as it was classified last.
func (c *Checker) find(id string) (Worker, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.workers[id]; e != nil && e.classified {
		return e.last, true
	}
	return Worker{}, false
}

func (c *Checker) isDead(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.workers[id]
	return e != nil && e.classified && e.last.State == status.Dead
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

// dropUnregistered drops every worker that is not registered any more.
func (c *Checker) dropUnregistered(list []heartbeat.Worker) {
	registered := make(map[string]bool, len(list))
	for _, w := range list {
		registered[w.ID] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, e := range c.workers {
		if !registered[id] && !e.checking {
			c.dropLocked(id, e)
		}
	}
}

// drop drops a worker that has left since the registry was read.
func (c *Checker) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.workers[id]; e != nil {
		c.dropLocked(id, e)
	}
}

// dropLocked is drop for a caller that holds mu.
func (c *Checker) dropLocked(id string, e *entry) {
	delete(c.workers, id)
	if e.classified && e.last.State != status.Dead {
		c.opts.Logger.Info("worker left", "worker_id", id)
	}
}

// record keeps how a worker was classified, and logs when that differs in kind from the time before. It returns the
// worker with the time since when it is dead, and reports whether that is new.
func (c *Checker) record(w Worker) (_ Worker, died bool) {
	c.mu.Lock()
	e := c.workers[w.ID]
	if e == nil {
		c.mu.Unlock()
		return w, false
	}
	before, known, inherited := e.last, e.classified, e.inherited
	if w.State == status.Dead {
		if w.DeadSince = before.DeadSince; w.DeadSince.IsZero() {
			w.DeadSince = time.Now()
		}
	}
	e.last, e.classified = w, true
	c.mu.Unlock()

	log := c.opts.Logger.With("worker_id", w.ID, "host", w.Beat.Host, "address", w.Beat.Address)
	died = w.State == status.Dead && (!known || before.State != status.Dead)
	switch {
	case died:
		log.Warn("worker dead", "cause", w.Cause, "reason", w.Reason, "proven", w.Proven)
	case w.State == status.Dead && known && (before.Cause != w.Cause || before.Proven != w.Proven):
		log.Info("worker dead still", "cause", w.Cause, "reason", w.Reason, "proven", w.Proven)
	case w.State != status.Dead && known && before.State == status.Dead:
		log.Info("worker back", "state", w.State, "reason", w.Reason)
	case !known && !inherited && w.State != status.Dead:
		log.Info("worker joined", "state", w.State, "reason", w.Reason)
	case known && before.State != w.State:
		log.Debug("worker state changed", "state", w.State, "reason", w.Reason)
	}
	return w, died
}
