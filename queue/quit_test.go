package queue

import (
	"testing"
	"time"
)

// The last outcomes get what is left of the two timeouts, five seconds at most, and a moment in any case.
func TestQuitLimit(t *testing.T) {
	for _, test := range []struct{ shutdown, settle, since, want time.Duration }{
		{time.Second, 0, time.Minute, quitAfter},
		{30 * time.Second, 10 * time.Second, time.Second, quitAfter},
		{30 * time.Second, 10 * time.Second, 30 * time.Second, quitAfter},
		{time.Second, 2 * time.Second, time.Second, 2 * time.Second},
		{time.Second, 2 * time.Second, 0, 3 * time.Second},
		{time.Second, time.Second, time.Minute, quitAtLeast},
	} {
		o := Options{ShutdownTimeout: test.shutdown, SettleTimeout: test.settle}
		if got := o.quitLimit(test.since); got != test.want {
			t.Errorf("%+v: %v, want %v", test, got, test.want)
		}
	}
}
