package queue

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/internal/wakeup"
)

type eventKind int

const (
	eventBegan    eventKind = iota // attempt: its handler has begun, at
	eventProgress                  // attempt: something was reported that is not written yet
	eventEnded                     // attempt: result, took, err
	eventCycled                    // queue, cycle
	eventWaited                    // queue, cycle: the one behind a claim
	eventClaim                     // queue: something stands in this worker's list, or may
	eventWake                      // there may be room or tasks again
	eventLost                      // attempt: its task is no longer ours
	eventCancel                    // taskID: somebody has cancelled it
	eventDrain                     // no task may be taken any more
)

// event is something that happened and that the loop has to know.
type event struct {
	kind    eventKind
	attempt *attempt
	queue   *queueState
	cycle   cycleResult
	at      time.Time
	result  json.RawMessage
	took    time.Duration
	err     error
	taskID  string
}

// inbox is how other goroutines reach the loop. It is bounded by what can happen to the attempts in flight (a begin, an
// end and one progress each), one cycle and one claim for each queue.
type inbox struct {
	wake wakeup.Signal

	mu     sync.Mutex // guards events
	events []event
}

func newInbox() *inbox { return &inbox{wake: wakeup.New()} }

// put adds an event. It never blocks.
func (in *inbox) put(e event) {
	in.mu.Lock()
	in.events = append(in.events, e)
	in.mu.Unlock()
	in.wake.Wake()
}

// take returns all events, and keeps the memory of those before, which the caller has done with.
func (in *inbox) take(done []event) []event {
	clear(done)
	in.mu.Lock()
	defer in.mu.Unlock()
	events := in.events
	in.events = done[:0]
	return events
}
