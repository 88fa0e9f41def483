package worker

import (
	"testing"
	"time"

	"github.com/runqy/runqy-worker/supervisor"
)

// usages are what a process uses, one sample after the other.
type usages []supervisor.Usage

func (u *usages) Usage() (supervisor.Usage, bool) {
	now := (*u)[0]
	*u = (*u)[1:]
	return now, now.PID != 0
}

func TestUsageOfAnotherProcessStartsAnew(t *testing.T) {
	var u usageSampler
	samples := usages{{PID: 1, Resident: 5}, {PID: 2, CPU: time.Hour, Resident: 6}, {}}
	for _, want := range []int64{5, 6, -1} {
		if resident, share := u.sample(&samples); resident != want || share >= 0 {
			t.Errorf("the first sample of a process is %d bytes and %v of a core, want %d bytes and no share", resident, share, want)
		}
	}
}
