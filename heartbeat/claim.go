package heartbeat

import (
	"context"
	"fmt"
	"time"
)

// LiveError refuses a worker id that another live process holds.
type LiveError struct {
	ID       string
	Host     string    // of the holder; empty when its heartbeat does not tell
	PID      int       // of the holder; 0 likewise
	LastBeat time.Time // of the holder, on its clock
	Why      string    // how it is known to be live
}

// Error says who holds the id and what to do about it.
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
	claimPoll  = 250 * time.Millisecond // between two looks at a holder's key
	claimSlack = time.Second            // beyond TTL and interval, for Redis' lazy clock
)

// Claim makes the worker id this process's own by writing the first heartbeat,
// and returns nil once that has happened.
//
// When the key belongs to another process, that one's death is looked into: a
// process of this host that is proven gone is replaced at once, one that is
// proven to run gets a [*LiveError] at once. Of any other process Claim waits
// to see either its key expire or a new beat (a *LiveError); that takes as
// long as the key's TTL plus an interval at most. Any other error is Redis'
// or ctx's, and Claim may be called again.
func (w *Writer) Claim(ctx context.Context) error {
	var seen *holder // the holder that is being watched
	for {
		request := writeRequest{claim: true, register: true}
		if seen != nil && seen.gone {
			request.replace = seen.beat.Nonce
		}
		owner, err := w.write(ctx, request)
		if err != nil {
			return fmt.Errorf("claim worker id %q: %w", w.opts.ID, err)
		}
		if !owner.foreign {
			return nil
		}
		now, err := w.look(ctx)
		if err != nil {
			return fmt.Errorf("claim worker id %q: %w", w.opts.ID, err)
		}
		if now == nil { // expired between the two looks
			continue
		}
		if seen == nil || seen.beat.Nonce != now.beat.Nonce {
			if seen != nil && !seen.gone {
				// Another successor was quicker.
				return w.refuse(now, "it has just started")
			}
			seen = now
			if err := w.meet(seen); err != nil {
				return err
			}
			if seen.gone {
				continue
			}
		} else if err := w.compare(seen, now); err != nil {
			return err
		}
		if err := sleep(ctx, claimPoll); err != nil {
			return fmt.Errorf("claim worker id %q: %w", w.opts.ID, err)
		}
	}
}

// holder is what was seen of the process that holds the id.
type holder struct {
	beat     Beat
	lastBeat string // as it stands in the hash: any difference is a new beat
	ttl      time.Duration
	at       time.Time
	gone     bool // proven
}

// look reads the present holder; nil when there is none.
func (w *Writer) look(ctx context.Context) (*holder, error) {
	ctx, cancel := context.WithTimeout(ctx, w.opTimeout())
	defer cancel()
	hash, ttl, err := w.store.read(ctx)
	if err != nil || hash == nil {
		return nil, err
	}
	// A field that cannot be read is no reason not to watch the key.
	beat, _ := ParseBeat(hash)
	return &holder{beat: beat, lastBeat: hash["last_beat"], ttl: ttl, at: time.Now()}, nil
}

// meet judges a holder seen for the first time. It answers an error when the
// id is refused, sets gone when it may be replaced, and else leaves the holder
// to be watched.
func (w *Writer) meet(h *holder) error {
	switch judge(w.opts.Identity, h.beat.Identity) {
	case livenessAlive:
		return w.refuse(h, "that process runs on this host")
	case livenessGone:
		if h.beat.Nonce != "" { // else there is nothing to guard the replacement with
			h.gone = true
			w.opts.Logger.Info("taking over the worker id of a process that is gone",
				"id", w.opts.ID, "pid", h.beat.PID)
			return nil
		}
	case livenessUnknown:
	}
	if h.ttl < 0 {
		return fmt.Errorf("claim worker id %q: the key %s never expires, so it is not a worker's heartbeat: "+
			"delete it (redis-cli DEL %s) or use another worker.id", w.opts.ID, Key(w.opts.ID), Key(w.opts.ID))
	}
	w.opts.Logger.Warn("worker id is held by another process, waiting for it to beat or to expire",
		"id", w.opts.ID, "host", h.beat.Host, "pid", h.beat.PID, "expires_in", h.ttl)
	return nil
}

// compare says whether the holder has beaten since it was first seen, or has
// outstayed the longest possible wait.
func (w *Writer) compare(first, now *holder) error {
	elapsed := now.at.Sub(first.at)
	switch {
	case now.lastBeat != first.lastBeat:
		return w.refuse(now, "it has sent a heartbeat meanwhile")
	case now.ttl > first.ttl:
		return w.refuse(now, "its heartbeat has been renewed meanwhile")
	case elapsed > first.ttl+w.opts.Interval+claimSlack:
		return w.refuse(now, fmt.Sprintf("its heartbeat has not expired in %s", elapsed.Round(time.Second)))
	}
	return nil
}

func (w *Writer) refuse(h *holder, why string) error {
	return &LiveError{ID: w.opts.ID, Host: h.beat.Host, PID: h.beat.PID, LastBeat: h.beat.LastBeat, Why: why}
}

// sleep waits, or returns ctx's error when that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
