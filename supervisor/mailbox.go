package supervisor

import (
	"sync"

	"github.com/runqy/runqy-worker/internal/wakeup"
	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

// mailbox is how other goroutines reach the event loop.
type mailbox struct {
	events   chan event
	restarts chan restart
	full     wakeup.Signal // the process has taken its last request; not an event, since Submit must not wait for the loop
	draining chan struct{} // closed by drain
	stopping chan struct{} // closed by stop
	killing  chan struct{} // closed by kill
	done     chan struct{} // closed when Run has returned, or Stop came before it

	drainOnce, stopOnce, killOnce sync.Once
}

func newMailbox() *mailbox {
	return &mailbox{
		events:   make(chan event),
		restarts: make(chan restart),
		full:     wakeup.New(),
		draining: make(chan struct{}),
		stopping: make(chan struct{}),
		killing:  make(chan struct{}),
		done:     make(chan struct{}),
	}
}

func (m *mailbox) drain() { m.drainOnce.Do(func() { close(m.draining) }) }
func (m *mailbox) stop()  { m.stopOnce.Do(func() { close(m.stopping) }) }
func (m *mailbox) kill()  { m.killOnce.Do(func() { close(m.killing) }) }

// post brings an event to the event loop; it blocks until the loop takes it, or has ended.
func (m *mailbox) post(e event) {
	select {
	case m.events <- e:
	case <-m.done:
	}
}

// restart is a call of Restart.
type restart struct {
	cause string
	done  chan error // capacity 1
}

type eventKind int

const (
	eventReady        eventKind = iota // message is the ready message
	eventStartFailed                   // message says why it cannot start
	eventPong                          // message
	eventChecked                       // message is the answer to a check
	eventQuiet                         // nothing is in flight, as a check needs it
	eventBroken                        // breakage says why no more tasks can be given to it
	eventStdoutClosed                  // by the process
	eventStdinClosed                   // by the process
	eventDied                          // the process is dead, not reaped yet; exit is set
	eventStack                         // where the process is, as the loop has asked; stack is set
	eventEnded                         // pipes read to the end, goroutines gone; exit is set
	eventIdle                          // nothing is in flight that may still end by itself
)

// event is something that happened to a child.
type event struct {
	kind     eventKind
	child    *child
	message  wire.Message
	breakage breakage
	exit     exit
	stack    Stack
}
