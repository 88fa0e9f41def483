package supervisor

import "time"

// breaker remembers recent crashes and says how long to wait before the next
// start, or that it is time to give up. It belongs to the owner goroutine and
// reads no clock of its own.
type breaker struct {
	policy  RestartPolicy
	crashes []time.Time // within the window, oldest first; at most Max+1
}

// crash records a crash. It returns the delay before the next start, or false
// when more than Max crashes lie within the window. jitter is in [0,1).
func (b *breaker) crash(now time.Time, jitter float64) (time.Duration, bool) {
	kept := b.crashes[:0]
	for _, t := range b.crashes {
		if now.Sub(t) < b.policy.Window {
			kept = append(kept, t)
		}
	}
	kept = append(kept, now)
	b.crashes = kept
	if len(b.crashes) > b.policy.Max {
		return 0, false
	}
	return delay(b.policy, len(b.crashes), jitter), true
}

// reset forgets all crashes: an operator has looked at it.
func (b *breaker) reset() { b.crashes = nil }

// delay is the wait after the nth crash in the window (n from 1): it doubles
// from InitialDelay to MaxDelay; jitter takes up to half of it away, so that
// workers that crashed together do not start together.
func delay(p RestartPolicy, n int, jitter float64) time.Duration {
	d := p.InitialDelay
	for i := 1; i < n && d < p.MaxDelay; i++ {
		d *= 2
	}
	if d > p.MaxDelay {
		d = p.MaxDelay
	}
	return d - time.Duration(jitter*float64(d)/2)
}
