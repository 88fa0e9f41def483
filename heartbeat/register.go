package heartbeat

import (
	"context"
	"fmt"
	"time"

	"github.com/runqy/runqy-worker/internal/timer"
)

// LiveError refuses a worker id that another live process has.
type LiveError struct {
	ID       string
	Host     string    // of that process; empty when its heartbeat does not tell
	PID      int       // of that process; 0 likewise
	LastBeat time.Time // of that process, on its clock
	Why      string    // how it is known to be live
}

// Error says which process has the id and what to do about it.
func (e *LiveError) Error() string {
	host := e.Host
	if host == "" {
		host = "unknown"
	}
	return fmt.Sprintf("worker id %q is in use by a live worker (host %s, pid %d: %s): "+
		"stop that worker, or give this one an id of its own (worker.id or RUNQY_WORKER_ID)",
		e.ID, host, e.PID, e.Why)
}

const (
	registerPoll  = 250 * time.Millisecond // between two readings of another process's key
	registerSlack = time.Second            // beyond TTL and interval, for Redis' lazy clock
)

// Register makes the worker id this process's own by writing the first heartbeat, and returns nil once that has
// happened. Call it before [Writer.Run].
//
// When the key belongs to another process, it finds out whether that one lives: a process of this host that is proven
// gone is replaced at once, one that is proven to run gets a [*LiveError] at once. Of any other process Register waits
// to see either its key expire or a new heartbeat (a *LiveError); that takes as long as the key's TTL plus an interval
// at most. Any other error is Redis' or ctx's, and Register may be called again.
func (w *Writer) Register(ctx context.Context) error {
	var seen *observation // of the process that is being watched
	for {
		request := writeRequest{strict: true, register: true}
		if seen != nil && seen.gone {
			request.replace = seen.beat.Nonce
		}
		other, err := w.write(ctx, request)
		if err != nil {
			return fmt.Errorf("register worker id %q: %w", w.opts.ID, err)
		}
		if other == nil {
			if request.replace != "" {
				w.replaced.Store(&seen.beat)
			}
			return nil
		}
		now, err := w.observe(ctx)
		if err != nil {
			return fmt.Errorf("register worker id %q: %w", w.opts.ID, err)
		}
		if now == nil { // expired since the write
			continue
		}
		if seen == nil || seen.beat.Nonce != now.beat.Nonce {
			if seen != nil && !seen.gone {
				// Another successor was quicker.
				return w.refuse(now, "it has just started")
			}
			seen = now
			if err := w.classify(seen); err != nil {
				return err
			}
			if seen.gone {
				continue
			}
		} else if err := w.compare(seen, now); err != nil {
			return err
		}
		if err := timer.Sleep(ctx, registerPoll); err != nil {
			return fmt.Errorf("register worker id %q: %w", w.opts.ID, err)
		}
	}
}

// Replaced returns the last heartbeat of the process that [Writer.Register] has replaced, since that was proven gone and had
// left it behind; nil: it has replaced none.
func (w *Writer) Replaced() *Beat { return w.replaced.Load() }

// observation is what was seen of another process that has the id.
type observation struct {
	beat     Beat
	lastBeat string // as it stands in the hash: any difference is a new heartbeat
	ttl      time.Duration
	at       time.Time
	gone     bool // proven
}

// observe reads the hash of the process that has the id; nil when there is none.
func (w *Writer) observe(ctx context.Context) (*observation, error) {
	ctx, cancel := context.WithTimeout(ctx, w.opTimeout())
	defer cancel()
	hash, ttl, err := w.store.read(ctx)
	if err != nil || hash == nil {
		return nil, err
	}
	// A field that cannot be read is no reason not to watch the key.
	beat, _ := ParseBeat(hash)
	return &observation{beat: beat, lastBeat: hash["last_beat"], ttl: ttl, at: time.Now()}, nil
}

// classify finds out whether a process that is seen for the first time lives. It returns an error when the id is
// refused, sets gone when the process may be replaced, and else leaves it to be watched.
func (w *Writer) classify(o *observation) error {
	switch livenessOf(w.opts.Identity, o.beat.Identity) {
	case livenessAlive:
		return w.refuse(o, "that process runs on this host")
	case livenessGone:
		if o.beat.Nonce != "" { // else there is nothing to guard the replacement with
			o.gone = true
			w.opts.Logger.Info("worker id taken over", "worker_id", w.opts.ID, "pid", o.beat.PID, "reason", "that process is gone")
			return nil
		}
	case livenessUnknown:
	}
	if o.ttl < 0 {
		return fmt.Errorf("register worker id %q: the key %s never expires, so it is not a worker's heartbeat: "+
			"delete it (redis-cli DEL %s) or use another worker.id", w.opts.ID, Key(w.opts.ID), Key(w.opts.ID))
	}
	w.opts.Logger.Warn("worker id in use", "worker_id", w.opts.ID, "host", o.beat.Host, "pid", o.beat.PID, "expires_in", o.ttl)
	return nil
}

// compare refuses the id when the process has written a heartbeat since it was first seen, or has stayed longer than
// the longest possible wait.
func (w *Writer) compare(first, now *observation) error {
	elapsed := now.at.Sub(first.at)
	switch {
	case now.lastBeat != first.lastBeat:
		return w.refuse(now, "it has sent a heartbeat meanwhile")
	case now.ttl > first.ttl:
		return w.refuse(now, "its heartbeat has been renewed meanwhile")
	case elapsed > first.ttl+w.opts.Interval+registerSlack:
		return w.refuse(now, fmt.Sprintf("its heartbeat has not expired in %s", elapsed.Round(time.Second)))
	}
	return nil
}

func (w *Writer) refuse(o *observation, why string) error {
	return &LiveError{ID: w.opts.ID, Host: o.beat.Host, PID: o.beat.PID, LastBeat: o.beat.LastBeat, Why: why}
}
