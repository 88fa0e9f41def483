package main

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

// span is a time over which a surface said the same. Times are seconds since the fault was injected; before it they are
// negative.
type span struct {
	Colour colour  `json:"answer"`
	From   float64 `json:"from"` // when the first such answer was given
	To     float64 `json:"to"`   // when the last one was
	Detail string  `json:"detail,omitempty"`
}

// watch asks the surfaces of a system until it is stopped.
type watch struct {
	began   time.Time
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	said  map[string][]sample // by surface
	names []string
}

type sample struct {
	at time.Time // when the answer was asked for, if it is not green; when it was given, if it is
	answer
}

// startWatch begins to ask. Their limits are multiplied by slack.
func startWatch(ctx context.Context, surfaces []surface, slack float64) *watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{began: time.Now(), cancel: cancel, said: map[string][]sample{}}
	for _, s := range surfaces {
		w.names = append(w.names, s.name)
		w.running.Go(func() { w.follow(ctx, s, time.Duration(slack*float64(cmp.Or(s.limit, askTimeout)))) })
	}
	return w
}

func (w *watch) stop() {
	w.cancel()
	w.running.Wait()
}

func (w *watch) follow(ctx context.Context, s surface, limit time.Duration) {
	for ctx.Err() == nil {
		asked := time.Now()
		limited, cancel := context.WithTimeout(ctx, limit)
		said := s.ask(limited)
		cancel()
		if ctx.Err() != nil {
			if time.Since(asked) < min(limit, askTimeout) {
				return // what was not answered yet tells nothing
			}
			said = answer{silent, "no answer until the end"}
		}
		at := asked
		if said.colour == green {
			at = time.Now()
		}
		w.mu.Lock()
		w.said[s.name] = append(w.said[s.name], sample{at, said})
		w.mu.Unlock()
		pause(ctx, s.every-time.Since(asked))
	}
}

// noneGreen reports whether no surface has been green for so long.
func (w *watch) noneGreen(d time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range w.names {
		for _, s := range slices.Backward(w.said[name]) {
			if time.Since(s.at) > d {
				break
			}
			if s.colour == green {
				return false
			}
		}
	}
	return true
}

// allGreen returns whether each surface's newest answer, given after a time, is green; and what a surface said that is not.
func (w *watch) allGreen(since time.Time) (bool, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range w.names {
		said := w.said[name]
		if len(said) == 0 || said[len(said)-1].at.Before(since) {
			return false, name + " has not answered"
		}
		if last := said[len(said)-1]; last.colour != green {
			return false, name + " is " + string(last.colour) + ": " + last.detail
		}
	}
	return true, ""
}

// spans returns what a surface said, with times since an event.
func (w *watch) spans(name string, event time.Time) []span {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []span
	for _, s := range w.said[name] {
		at := math.Round(100*s.at.Sub(event).Seconds()) / 100
		if n := len(out); n > 0 && out[n-1].Colour == s.colour {
			out[n-1].To = at
			continue
		}
		out = append(out, span{s.colour, at, at, s.detail})
	}
	return out
}
