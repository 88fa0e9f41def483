package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/receipt"
	"github.com/runqy/runqy-worker/internal/wakeup"
)

// ErrTakenOver is returned, wrapped, by [Writer.Run] when the heartbeat key belongs to another process: this one was
// silent for longer than the TTL and a successor took its id. It must stop working.
var ErrTakenOver = errors.New("another process has taken over this worker id")

const (
	// A request to write waits this long for others to join it, and writes are at least minGap apart; for WriteNow both
	// together stay below the promised 100 ms.
	nowDelay  = 20 * time.Millisecond
	soonDelay = 100 * time.Millisecond
	minGap    = 50 * time.Millisecond

	// One command gets between minOp and maxOp, and one that is under way at the end stopOp more.
	minOp  = 500 * time.Millisecond
	maxOp  = 5 * time.Second
	stopOp = 2 * time.Second

	maxRetryDelay = time.Second

	// removeTimeout bounds the deletion of the key at a clean stop.
	removeTimeout = 2 * time.Second
)

// Options say whose heartbeat a [Writer] writes and how often.
type Options struct {
	ID       string        // worker id; required
	Interval time.Duration // between two beats; default 5 s
	TTL      time.Duration // of the hash; default three intervals; must be longer than the interval
	Identity Identity      // of this process, from NewIdentity; the nonce is required
	Logger   *slog.Logger  // default: slog.Default()

	// Running returns how much of the time between two moments this process was running: a pause of the whole process is no
	// fault of what was due in it. Default: all of it.
	Running func(since, now time.Time) time.Duration

	// Source returns what to write. It is called for every write, from the goroutine of Register or Run, and must not
	// block. Identity, LastBeat, Interval and TTL are filled in by the Writer, and Started when it is zero.
	Source func() Beat
}

// Writer writes the heartbeat of one worker: first [Writer.Register], then [Writer.Run]. The other methods may be
// called from any goroutine at any time.
type Writer struct {
	opts    Options
	store   store
	started time.Time
	now     wakeup.Signal // of WriteNow
	soon    wakeup.Signal // of WriteSoon

	receipts receipt.Log
	replaced atomic.Pointer[Beat] // by Register
}

// NewWriter returns a Writer that has not written anything yet. The client should have ContextTimeoutEnabled: only then
// is a command that a server never answers cut short (after 5 s at most) rather than left to the client's own timeouts
// and retries.
func NewWriter(client redis.UniversalClient, opts Options) *Writer {
	return newWriter(newRedisStore(client, opts.ID, opts.Identity.Nonce), opts)
}

func newWriter(s store, opts Options) *Writer {
	if opts.Interval <= 0 {
		opts.Interval = 5 * time.Second
	}
	if opts.TTL <= 0 {
		opts.TTL = 3 * opts.Interval
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	opts.Logger = opts.Logger.With("component", "heartbeat")
	return &Writer{opts: opts, store: s, started: time.Now(), now: wakeup.New(), soon: wakeup.New(),
		receipts: receipt.Log{Running: opts.Running}}
}

// WriteNow has the heartbeat written within 100 ms: health has changed. It never blocks; calls in quick succession
// share a write.
func (w *Writer) WriteNow() { w.now.Wake() }

// WriteSoon has the heartbeat written in about 100 ms: a task has started or ended. It never blocks, and any number of
// calls costs ten writes a second at most.
func (w *Writer) WriteSoon() { w.soon.Wake() }

// Run writes the heartbeat until ctx ends; then it deletes the key, if that is still its own, and returns nil or why
// that failed, within about five seconds even when Redis is frozen. While Redis cannot be written to it goes on trying,
// at least once a second, and logs when that begins and ends. It returns an error wrapping [ErrTakenOver] as soon as it
// finds that another process has the key.
func (w *Writer) Run(ctx context.Context) error {
	var (
		failing  bool
		lastTry  time.Time
		beatAt   = time.Now() // the next beat of the regular rhythm
		due      = beatAt     // the next write, whatever its reason
		timer    = time.NewTimer(0)
		schedule = func(at time.Time) {
			if earliest := lastTry.Add(minGap); at.Before(earliest) {
				at = earliest
			}
			// While Redis is down the retry is near enough, and will write everything.
			if !failing && at.Before(due) {
				due = at
				w.receipts.Expect(due)
				timer.Reset(time.Until(due))
			}
		}
	)
	defer timer.Stop()
	w.receipts.Expect(due)
	defer w.receipts.Expect(time.Time{})
	for {
		select {
		case <-ctx.Done():
			return w.unregister(ctx)
		case <-w.now.C():
			schedule(time.Now().Add(nowDelay))
			continue
		case <-w.soon.C():
			schedule(time.Now().Add(soonDelay))
			continue
		case <-timer.C:
		}
		if ctx.Err() != nil {
			continue
		}
		lastTry = time.Now()
		regular := !lastTry.Before(beatAt)
		other, err := w.write(ctx, writeRequest{register: regular})
		now := time.Now()
		switch {
		case err != nil:
			if !failing && ctx.Err() == nil {
				w.opts.Logger.Warn("heartbeat write failed", "error", err, "ttl", w.opts.TTL)
				failing = true
			}
			due = now.Add(min(w.opts.Interval, maxRetryDelay))
			beatAt = due // what is missing in the registry is made good too
		case other != nil:
			return fmt.Errorf("worker id %q: %w (host %s, pid %s)", w.opts.ID, ErrTakenOver, other.host, other.pid)
		default:
			if failing {
				w.opts.Logger.Info("heartbeat write resumed")
				failing = false
			}
			if regular {
				beatAt = lastTry.Add(w.opts.Interval)
			}
			due = beatAt
		}
		w.receipts.Expect(due)
		timer.Reset(time.Until(due))
	}
}

// write writes one heartbeat, or returns the other process that has the key. The caller fills in what is special about
// it. It is not given up when ctx ends: Redis might carry it out later, after the deletion that follows.
func (w *Writer) write(ctx context.Context, r writeRequest) (*holder, error) {
	ctx, cancel := lastingLonger(ctx)
	defer cancel()
	now := time.Now()
	beat := w.opts.Source()
	beat.Identity = w.opts.Identity
	beat.LastBeat = now
	beat.Interval, beat.TTL = w.opts.Interval, w.opts.TTL
	if beat.Started.IsZero() {
		beat.Started = w.started
	}
	r.fields, r.ttl = beat.fields(), w.opts.TTL
	other, err := w.send(ctx, r)
	if other == nil {
		w.receipts.Answer(now, err)
	}
	return other, err
}

// send writes the hash and, when asked to, the entry in the registry.
func (w *Writer) send(ctx context.Context, r writeRequest) (*holder, error) {
	w.receipts.Ask()
	writing, cancel := context.WithTimeout(ctx, w.opTimeout())
	defer cancel()
	other, err := w.store.write(writing, r)
	if err != nil || other != nil || !r.register {
		return other, err
	}
	w.receipts.Ask()
	registering, cancel := context.WithTimeout(ctx, w.opTimeout())
	defer cancel()
	return nil, w.store.register(registering, r.ttl)
}

// lastingLonger returns a context that ends stopOp after ctx does.
func lastingLonger(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(stopOp, cancel) })
	return longer, func() {
		stop()
		cancel()
	}
}

// opTimeout is how long one command may take.
func (w *Writer) opTimeout() time.Duration {
	return min(max(w.opts.Interval, minOp), maxOp)
}

// unregister deletes the key and the registry's entry after ctx has ended.
func (w *Writer) unregister(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	if err := w.store.remove(ctx); err != nil {
		return fmt.Errorf("leave the registry: %w", err)
	}
	return nil
}

// Failure is that Redis takes no heartbeats.
type Failure = receipt.Failure

// LastBeat returns when the heartbeat was last written with success, on this machine's clock; zero when it never was.
func (w *Writer) LastBeat() time.Time { return w.receipts.Last() }

// Failure says why Redis takes no heartbeats, while [Writer.Run] runs; nil when it takes them. One write that fails among
// others is no failure.
func (w *Writer) Failure() *Failure { return w.receipts.Judge(time.Now()) }
