package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/runqy/runqy-worker/internal/timer"
)

const (
	leaseDuration  = 10 * time.Second // how long the lease outlives its last renewal
	renewInterval  = 3 * time.Second  // the leader renews at least this often
	renewRetry     = time.Second      // until a renewal that failed is tried again
	requestTimeout = 3 * time.Second  // of one exchange with Redis
	// leaseMargin is how much earlier than Redis a leader that cannot renew counts its lease as over.
	leaseMargin = time.Second
)

// Lease is the lease of the leader as Redis keeps it; [Store] is the real one.
type Lease interface {
	// Acquire takes the lease for the candidate of that name, or renews it, for that long. When another process has it,
	// left is what remains of that one's. It writes in any case, so that its answer shows that Redis takes writes.
	Acquire(ctx context.Context, name string, lease time.Duration) (held bool, left time.Duration, err error)
	// Held reports whether any process has it.
	Held(ctx context.Context) (bool, error)
	// Release ends the lease, if it is that candidate's.
	Release(ctx context.Context, name string) error
}

// renew keeps the lease, which was asked for at since, until ctx ends or it is lost.
func (e *elector) renew(ctx context.Context, since time.Time) {
	wait := e.interval
	for {
		wait = min(wait, remaining(since))
		e.receipts.Expect(time.Now().Add(wait))
		_ = timer.Sleep(ctx, wait) // ctx is asked below
		asked := time.Now()
		held, _, err := e.acquire(ctx, min(requestTimeout, remaining(since)))
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && held:
			since, wait = asked, e.interval
		case err == nil:
			e.log.Warn("lease lost")
			return
		case remaining(since) <= 0:
			e.log.Warn("lease renewal failed", "error", err)
			return
		default:
			wait = min(e.interval, renewRetry)
		}
	}
}

// remaining is how long a lease that was asked for at since may still be counted on.
func remaining(since time.Time) time.Duration {
	return time.Until(since.Add(leaseDuration - leaseMargin))
}

func (e *elector) acquire(ctx context.Context, timeout time.Duration) (bool, time.Duration, error) {
	asking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	begun := time.Now()
	e.receipts.Ask()
	held, left, err := e.lease.Acquire(asking, e.name, leaseDuration)
	e.receipts.Answer(begun, err)
	return held, left, err
}

// resign releases the lease at once, so that no candidate has to wait for its end.
func (e *elector) resign(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	if err := e.lease.Release(ctx, e.name); err != nil {
		e.log.Warn("lease release failed", "error", err)
	}
}

// Acquire implements Lease.
func (s *Store) Acquire(ctx context.Context, name string, lease time.Duration) (held bool, left time.Duration, err error) {
	reply, err := s.acquire.Run(ctx, s.client, []string{LeaderKey}, name, lease.Milliseconds()).Int64Slice()
	if err != nil {
		return false, 0, fmt.Errorf("take %s: %w", LeaderKey, err)
	}
	if len(reply) == 2 {
		return false, time.Duration(reply[1]) * time.Millisecond, nil
	}
	return true, 0, nil
}

// Held implements Lease.
func (s *Store) Held(ctx context.Context) (bool, error) {
	n, err := s.client.Exists(ctx, LeaderKey).Result()
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", LeaderKey, err)
	}
	return n > 0, nil
}

// Release implements Lease.
func (s *Store) Release(ctx context.Context, name string) error {
	if err := s.release.Run(ctx, s.client, []string{LeaderKey}, name).Err(); err != nil {
		return fmt.Errorf("release %s: %w", LeaderKey, err)
	}
	return nil
}
