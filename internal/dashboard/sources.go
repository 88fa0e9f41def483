package dashboard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Sources are what the page is made from. Their functions are called from any goroutine. Those without a context must
// not block; those with one should return by its end.
type Sources struct {
	Name        string // the worker's id, or what this process is when it is no worker
	Version     string
	Environment string
	Host        string
	// ShowPayloads is dashboard.show_payloads: trusted visitors see payloads too.
	ShowPayloads bool

	// Health returns the health of this process; Since is filled in here. Required.
	Health func() Health
	// Changed returns a channel that is closed at the next change of Health; it is taken before Health is asked.
	// Required.
	Changed func() <-chan struct{}
	// Process, Active and Totals are of the worker and its Python process; nil together when this process is no worker.
	Process func() Process
	Active  func() Active
	Totals  func() (processed, failed int64)

	// Queues returns every queue without its charts. Required.
	Queues func(context.Context) ([]Queue, error)
	// Failures returns the tasks that failed last, at most limit of them. Required.
	Failures func(ctx context.Context, limit int) ([]Failure, error)
	// Fleet returns every worker of the registry, and when that was read; an error when that is too long ago to be the present.
	// Required.
	Fleet func(context.Context) (workers []Worker, read time.Time, err error)

	// System returns what else there is to know of the system. Required.
	System func(context.Context) (System, error)

	// Trusted reports whether a visitor sees what tasks carry (payloads, error texts, lines of stderr) and may act.
	// Required.
	Trusted func(*http.Request) bool
	Actions Actions
	Logger  *slog.Logger
}

// System is what is read of the whole system beside the workers and the queues of the page.
type System struct {
	Elsewhere []Queue        // all queues that Sources.Queues does not return
	Unread    int            // how many queues there are beyond those that are read
	Asynq     map[string]int // by queue, how many plain asynq servers serve it
	Deaths    []Death        // within the last hour, the latest first
}

// Actions are what a trusted visitor can do. The first line of an error is shown to the visitor.
type Actions struct {
	Restart func(context.Context) error // of the Python process; nil when this process is no worker
	// Stack says where the Python process is, and a task in it: the line in short, and the stacks. Nil as Restart.
	Stack         func(ctx context.Context, id string) (where, stacks string, err error)
	Retry, Delete func(ctx context.Context, queue, id string) error
	Pause, Resume func(ctx context.Context, queue string) error
}

func (s Sources) check() error {
	for name, missing := range map[string]bool{
		"Health": s.Health == nil, "Changed": s.Changed == nil, "Queues": s.Queues == nil, "Failures": s.Failures == nil,
		"Fleet": s.Fleet == nil, "System": s.System == nil, "Trusted": s.Trusted == nil, "Logger": s.Logger == nil,
		"Actions": s.Actions.Retry == nil || s.Actions.Delete == nil || s.Actions.Pause == nil || s.Actions.Resume == nil,
	} {
		if missing {
			return fmt.Errorf("dashboard: Sources.%s is missing", name)
		}
	}
	if (s.Process == nil) != (s.Active == nil) || (s.Process == nil) != (s.Totals == nil) {
		return errors.New("dashboard: Sources.Process, Active and Totals belong together")
	}
	return nil
}
