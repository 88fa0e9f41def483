package health

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runqy/runqy-worker/internal/broadcast"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/internal/wakeup"
)

const (
	// reportTick is the longest time between two looks of a [Reporter].
	reportTick = 500 * time.Millisecond
	// reportLimit is how long a Reporter may stand still before its report is stale.
	reportLimit = 2*reportTick + 2*time.Second
)

// Reporter owns the one report that every place which shows the health reads. Its goroutine, Run, looks again at each
// change and at least twice a second. What it makes has an age: when Run stands still, [Reporter.Report] says so. The
// other methods may be called from any goroutine and never block.
type Reporter struct {
	judge   func() status.Health
	due     wakeup.Signal
	changed broadcast.Notifier
	last    atomic.Pointer[judgement] // only Run replaces it
}

// judgement is what Run found last.
type judgement struct {
	health status.Health
	number int64
	at     time.Time
}

// NewReporter returns a Reporter whose reports are what judge returns. judge is called here once and then by Run alone;
// it must not block.
func NewReporter(judge func() status.Health) *Reporter {
	r := &Reporter{judge: judge, due: wakeup.New()}
	r.last.Store(&judgement{health: judge(), number: 1, at: time.Now()})
	return r
}

// Report returns the present report, which is not healthy when it is stale.
func (r *Reporter) Report() status.Report {
	last := r.last.Load()
	report := status.Report{Health: last.health, Mark: status.Mark{Number: last.number, Age: max(0, time.Since(last.at))}}
	if report.Age > reportLimit {
		report.Stale = true
		report.Health = StoodStill(report.Health, "The loop that reports the health", last.at)
	}
	return report
}

// Changed returns a channel that is closed when the next report of another number has been made. Take it before the
// report that it is to follow.
func (r *Reporter) Changed() <-chan struct{} { return r.changed.Next() }

// Wake has Run look again now: something that judge reads has changed.
func (r *Reporter) Wake() { r.due.Wake() }

// Run makes the reports until ctx is over and then returns nil. Each of changes returns a channel that is closed when
// something has changed. announce is called after each new report; it must not block.
func (r *Reporter) Run(ctx context.Context, announce func(), changes ...func() <-chan struct{}) error {
	var followers sync.WaitGroup
	defer followers.Wait()
	for _, next := range changes {
		followers.Go(func() { r.follow(ctx, next) })
	}
	tick := time.NewTicker(reportTick)
	defer tick.Stop()
	for {
		if r.look() {
			r.changed.Notify()
			announce()
		}
		select {
		case <-r.due.C():
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// follow wakes Run at each change.
func (r *Reporter) follow(ctx context.Context, next func() <-chan struct{}) {
	for {
		changed := next() // before Run looks: a change that follows is not missed
		r.Wake()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// look makes the present report and returns whether it has a new number. It has one also after a pause in which readers
// may have found the last to be stale: they have to be told that it is not any more.
func (r *Reporter) look() bool {
	now, last := time.Now(), r.last.Load()
	next := &judgement{health: r.judge(), number: last.number, at: now}
	if !next.health.Equal(last.health) || now.Sub(last.at) > reportLimit-reportTick {
		next.number++
	}
	r.last.Store(next)
	return next.number != last.number
}
