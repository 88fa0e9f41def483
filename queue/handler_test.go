package queue_test

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/queue"
)

// handlerFunc runs one task; ctx is over when the task is to end early.
type handlerFunc func(ctx context.Context, t *queue.Task) (json.RawMessage, error)

// handler is a queue.Handler that runs each task on a goroutine of its own, as a process with asynchronous handlers
// does.
type handler struct {
	run         handlerFunc
	concurrency int
	running     sync.WaitGroup

	mu       sync.Mutex // guards the rest
	inFlight map[string]*submitted
}

type submitted struct {
	attempt queue.Attempt
	cancel  context.CancelFunc
}

func newHandler(run handlerFunc, concurrency int) *handler {
	return &handler{run: run, concurrency: concurrency, inFlight: make(map[string]*submitted)}
}

func (h *handler) Submit(t *queue.Task, a queue.Attempt) {
	ctx, cancel := context.WithCancel(context.Background())
	h.mu.Lock()
	if h.inFlight[t.ID] != nil {
		panic("task " + t.ID + " was submitted twice at once")
	}
	h.inFlight[t.ID] = &submitted{a, cancel}
	h.mu.Unlock()
	h.running.Go(func() {
		defer cancel()
		begun := time.Now()
		a.Began(begun)
		result, err := h.run(ctx, t)
		h.mu.Lock()
		delete(h.inFlight, t.ID)
		h.mu.Unlock()
		a.Ended(result, time.Since(begun), err)
	})
}

func (h *handler) Cancel(t *queue.Task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.inFlight[t.ID]; s != nil {
		s.cancel()
	}
}

func (h *handler) Room() queue.Room {
	h.mu.Lock()
	defer h.mu.Unlock()
	free := h.concurrency - len(h.inFlight)
	return queue.Room{Free: free, Idle: free > 0}
}

// progress reports the progress of a task that is with the handler.
func (h *handler) progress(id string, fraction float64, message string) {
	h.mu.Lock()
	s := h.inFlight[id]
	h.mu.Unlock()
	if s != nil {
		s.attempt.Progress(fraction, message)
	}
}
