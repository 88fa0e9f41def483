package supervisor

import (
	"time"

	"github.com/runqy/runqy-worker/internal/backoff"
)

// restartJitter is the share of the wait before a start that chance takes away at most.
const restartJitter = 0.5

// breaker remembers recent crashes and says how long to wait before the next start, or that it is time to give up. It
// belongs to the event loop and reads no clock of its own.
type breaker struct {
	policy  RestartPolicy
	crashes []time.Time // within the window, oldest first; at most Max+1
}

// crash records a crash. It returns the delay before the next start, or false when more than Max crashes lie within the
// window. chance is in [0,1): 0 takes nothing away from the delay.
func (b *breaker) crash(now time.Time, chance float64) (time.Duration, bool) {
	b.crashes = append(b.recent(now), now)
	if len(b.crashes) > b.policy.Max {
		return 0, false
	}
	delay := backoff.Policy{First: b.policy.InitialDelay, Max: b.policy.MaxDelay, Jitter: restartJitter}
	return delay.DelayAt(len(b.crashes), chance), true
}

// recent forgets the crashes before the window, and returns the others.
func (b *breaker) recent(now time.Time) []time.Time {
	kept := b.crashes[:0]
	for _, t := range b.crashes {
		if now.Sub(t) < b.policy.Window {
			kept = append(kept, t)
		}
	}
	b.crashes = kept
	return kept
}

// reset forgets all crashes: an operator has looked at them.
func (b *breaker) reset() { b.crashes = nil }
