package health

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runqy/runqy-worker/internal/broadcast"
	"github.com/runqy/runqy-worker/internal/status"
)

// judged is a Reporter with a health that the test sets, and that can be held up.
type judged struct {
	*Reporter
	health    atomic.Pointer[status.Health]
	source    broadcast.Notifier
	hold      atomic.Pointer[chan struct{}] // judge waits for it
	announced atomic.Int64
}

// runReporter runs a reporter until the test ends.
func runReporter(t *testing.T) *judged {
	t.Helper()
	j := &judged{}
	h := healthy()
	j.health.Store(&h)
	j.Reporter = NewReporter(func() status.Health {
		if held := j.hold.Load(); held != nil {
			<-*held
		}
		return *j.health.Load()
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- j.Run(ctx, func() { j.announced.Add(1) }, j.source.Next) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	synctest.Wait()
	return j
}

func TestReportsAreNumbered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := runReporter(t)
		if r := j.Report(); r.Number != 1 || r.Age != 0 || r.Stale || !r.Healthy {
			t.Errorf("the first report is %+v, want number 1, healthy", r)
		}
		time.Sleep(time.Minute + reportTick/2)
		if r := j.Report(); r.Number != 1 || r.Age > reportTick || j.announced.Load() != 0 {
			t.Errorf("without a change the report is %+v after %d announcements, want number 1 and an age of half a tick", r, j.announced.Load())
		}

		for n, tell := range []func(){j.Wake, j.source.Notify} {
			changed, began := j.Changed(), time.Now()
			h := healthy()
			h.Healthy, h.Reasons = n == 1, []status.Reason{{Summary: "because"}}[:1-n]
			j.health.Store(&h)
			tell()
			<-changed
			if r, took := j.Report(), time.Since(began); r.Number != int64(2+n) || r.Healthy != h.Healthy || took != 0 {
				t.Errorf("change %d: the report is %+v after %v, want number %d at once", n, r, took, 2+n)
			}
		}
		synctest.Wait()
		if j.announced.Load() != 2 {
			t.Errorf("%d announcements after two changes", j.announced.Load())
		}
	})
}

// A report that nobody renews turns every reader unhealthy, and the next one has another number.
func TestStaleReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := runReporter(t)
		hold := make(chan struct{})
		j.hold.Store(&hold)
		began := time.Now()
		time.Sleep(reportLimit)
		if r := j.Report(); !r.Healthy || r.Stale {
			t.Errorf("after %v the report is %+v, want the last one", reportLimit, r)
		}
		time.Sleep(reportTick + time.Millisecond)
		r := j.Report()
		if r.Healthy || r.Ready() || !r.Stale || r.Number != 1 || r.Worker != status.Unhealthy || !strings.HasPrefix(r.Mark.String(), "1; age=3.") {
			t.Errorf("after %v the report is %+v, want one that is stale", time.Since(began), r)
		}
		if live, _ := Live(r.Health); !live {
			t.Error("it is not live already: who asks that would kill it")
		}
		time.Sleep(wedgedAfter)
		r = j.Report()
		if live, why := Live(r.Health); live || why != r.Reason().Summary || !strings.Contains(why, "has not turned since") {
			t.Errorf("live %v with the reason %q, want not live for the reason %q", live, why, r.Reason())
		}

		changed := j.Changed()
		close(hold)
		<-changed
		if r := j.Report(); r.Number != 2 || r.Stale || !r.Healthy || j.announced.Load() != 1 {
			t.Errorf("when it goes on the report is %+v after %d announcements, want number 2, announced", r, j.announced.Load())
		}
	})
}
