package wire

import (
	"os"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/internal/wakeup"
)

// maxBatch is how many bytes of queued lines are joined into one write.
const maxBatch = 256 << 10

// Writer writes queued lines to the process' stdin from one goroutine, joining all that wait into one write. The queue
// is bounded by what is put into it: the requests in flight, one cancel and one withdrawal each, one ping and one question for
// the stacks. All
// methods may be called from any goroutine.
type Writer struct {
	f    *os.File
	wake wakeup.Signal // of Run

	mu      sync.Mutex // guards the fields below
	queue   [][]byte
	offset  int64 // where the next queued line begins in the stream
	written int64 // what the pipe has taken
	closing bool  // close the pipe when the queue is empty
	halted  bool  // drop everything
}

// NewWriter returns a writer to f, a pipe. [Writer.Run] does the writing.
func NewWriter(f *os.File) *Writer { return &Writer{f: f, wake: wakeup.New()} }

// Put queues a line, newline included, and returns where it begins in the stream, in bytes. It does not block. A line
// is dropped after Finish, Halt or an error of the pipe.
func (w *Writer) Put(line []byte) int64 {
	w.mu.Lock()
	start := w.offset
	w.offset += int64(len(line))
	if !w.halted && !w.closing {
		w.queue = append(w.queue, line)
	}
	w.mu.Unlock()
	w.wake.Wake()
	return start
}

// Finish closes the pipe once all that is queued is written.
func (w *Writer) Finish() {
	w.mu.Lock()
	w.closing = true
	w.mu.Unlock()
	w.wake.Wake()
}

// Halt makes Run return: a write that blocks fails, what is queued is dropped. The pipe stays open, so that what is
// left in it can be counted.
func (w *Writer) Halt() {
	w.mu.Lock()
	w.halted = true
	w.queue = nil
	w.mu.Unlock()
	w.f.SetWriteDeadline(time.Unix(1, 0)) //nolint:errcheck // a pipe has deadlines
	w.wake.Wake()
}

// Sent is how many bytes the pipe has taken so far.
func (w *Writer) Sent() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written
}

// Run writes until Finish, Halt or an error of the pipe, which it returns. It must be called once.
func (w *Writer) Run() error {
	var batch []byte
	for range w.wake.C() {
		for {
			w.mu.Lock()
			lines := w.queue
			w.queue = nil
			closing, halted := w.closing, w.halted
			w.mu.Unlock()
			if halted {
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
				if len(batch) > 0 && len(batch)+len(line) > maxBatch {
					if err := w.write(batch); err != nil {
						return err
					}
					batch = batch[:0]
				}
				if len(line) >= maxBatch {
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

func (w *Writer) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	n, err := w.f.Write(b)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written += int64(n)
	if err == nil || w.halted {
		return nil
	}
	w.halted = true
	w.queue = nil
	return err
}
