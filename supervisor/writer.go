package supervisor

import (
	"os"
	"sync"
	"time"
)

// batchMax is how many bytes of queued lines are joined into one write.
const batchMax = 256 << 10

// lineWriter writes queued lines to the process' stdin from one goroutine,
// joining all that wait into one write. The queue is bounded by what is put
// into it: the requests in flight, one cancel each, and one ping.
type lineWriter struct {
	f    *os.File
	kick chan struct{} // capacity 1

	mu      sync.Mutex // guards the fields below
	queue   [][]byte
	offset  int64 // where the next queued line begins in the stream
	written int64 // what the pipe has taken
	closing bool  // close the pipe when the queue is empty
	dead    bool  // drop everything
}

func newLineWriter(f *os.File) *lineWriter {
	return &lineWriter{f: f, kick: make(chan struct{}, 1)}
}

// put queues a line, newline included, and returns where it begins in the
// stream. It does not block.
func (w *lineWriter) put(line []byte) int64 {
	w.mu.Lock()
	start := w.offset
	w.offset += int64(len(line))
	if !w.dead && !w.closing {
		w.queue = append(w.queue, line)
	}
	w.mu.Unlock()
	w.wake()
	return start
}

func (w *lineWriter) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// finish closes the pipe once all that is queued is written.
func (w *lineWriter) finish() {
	w.mu.Lock()
	w.closing = true
	w.mu.Unlock()
	w.wake()
}

// halt makes run return: a write that blocks fails, what is queued is dropped.
// The pipe stays open for a look at what was left in it.
func (w *lineWriter) halt() {
	w.mu.Lock()
	w.dead = true
	w.queue = nil
	w.mu.Unlock()
	w.f.SetWriteDeadline(time.Unix(1, 0)) //nolint:errcheck // a pipe has deadlines
	w.wake()
}

// sent is how many bytes the pipe has taken so far.
func (w *lineWriter) sent() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written
}

// run writes until finish, halt or an error of the pipe, which it returns.
func (w *lineWriter) run() error {
	var batch []byte
	for range w.kick {
		for {
			w.mu.Lock()
			lines := w.queue
			w.queue = nil
			closing, dead := w.closing, w.dead
			w.mu.Unlock()
			if dead {
				return nil
			}
			if len(lines) == 0 {
				if closing {
					return w.f.Close()
				}
				break
			}
			batch = batch[:0]
			for i, line := range lines {
				lines[i] = nil
				if len(batch) > 0 && len(batch)+len(line) > batchMax {
					if err := w.write(batch); err != nil {
						return err
					}
					batch = batch[:0]
				}
				if len(line) >= batchMax {
					if err := w.write(line); err != nil {
						return err
					}
					continue
				}
				batch = append(batch, line...)
			}
			if err := w.write(batch); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *lineWriter) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	n, err := w.f.Write(b)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written += int64(n)
	if err == nil || w.dead {
		return nil
	}
	w.dead = true
	w.queue = nil
	return err
}
