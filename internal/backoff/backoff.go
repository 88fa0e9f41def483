// Package backoff says how long to wait before the next try.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Policy doubles the wait from First to Max. Jitter, from 0 to 1, is the share of each wait that chance may take away,
// so that clients that failed together do not try again together.
type Policy struct {
	First, Max time.Duration
	Jitter     float64
}

// Delay returns the wait after the nth failure in a row, counted from 1.
func (p Policy) Delay(n int) time.Duration { return p.DelayAt(n, rand.Float64()) }

// DelayAt is Delay with the chance given: 0 takes nothing away, 1 the whole share.
func (p Policy) DelayAt(n int, chance float64) time.Duration {
	d := p.First
	for i := 1; i < n && d < p.Max; i++ {
		d *= 2
	}
	d = min(d, p.Max)
	return d - time.Duration(chance*p.Jitter*float64(d))
}
