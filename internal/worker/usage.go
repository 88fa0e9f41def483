package worker

import (
	"sync"
	"time"

	"github.com/runqy/runqy-worker/supervisor"
)

// usageSampler turns the CPU time of the Python process into a share of a core.
type usageSampler struct {
	mu    sync.Mutex // guards the rest
	at    time.Time  // of the last sample; zero: there is none
	last  supervisor.Usage
	share float64 // between the last two samples; negative while there is only one
}

// sample returns the resident bytes of the process and its share of one core, both negative while unknown. It takes a
// sample at most once a second, so that several pages show the same.
func (u *usageSampler) sample(s interface {
	Usage() (supervisor.Usage, bool)
}) (resident int64, share float64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now, ok := s.Usage()
	if !ok {
		u.at = time.Time{}
		return -1, -1
	}
	elapsed := time.Since(u.at)
	switch {
	case u.at.IsZero() || now.PID != u.last.PID:
		u.at, u.last, u.share = time.Now(), now, -1
	case elapsed >= time.Second:
		u.share = max(0, (now.CPU-u.last.CPU).Seconds()/elapsed.Seconds())
		u.at, u.last = time.Now(), now
	}
	return now.Resident, u.share
}
