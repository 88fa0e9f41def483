package worker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// awaiting is a shutdown whose parts may take 10 s.
type awaiting struct {
	shutdown
	log    bytes.Buffer
	closed atomic.Bool // the clients
}

func newAwaiting() *awaiting {
	a := &awaiting{}
	a.shutdown = shutdown{
		limit: 10 * time.Second, close: func() { a.closed.Store(true) }, parts: newParts(),
		log: slog.New(slog.NewTextHandler(&a.log, nil)),
	}
	return a
}

// end has Run told to stop at once, and returns what it returns and after how long.
func (a *awaiting) end(t *testing.T, ended <-chan error) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	err := a.await(ctx, ctx, ended)
	return time.Since(began), err
}

func TestShutdownReturnsWhatTheWorkReturns(t *testing.T) {
	failure := errors.New("a failure")
	for name, working := range map[string]bool{"while it works": true, "after the stop": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAwaiting()
				ctx, cancel := context.WithCancel(t.Context())
				if !working {
					cancel()
				}
				defer cancel()
				ended := make(chan error, 1)
				a.parts.start("part", func() { time.Sleep(9 * time.Second); ended <- failure })
				if err := a.await(ctx, ctx, ended); !errors.Is(err, failure) || a.log.Len() > 0 || a.closed.Load() {
					t.Errorf("error %v, log %q, clients closed: %v; want the failure and nothing else", err, &a.log, a.closed.Load())
				}
				a.parts.wait()
				if left := a.parts.left(); len(left) > 0 {
					t.Errorf("the parts %q are left, want none", left)
				}
			})
		})
	}
}

// What waits for Redis goes on when the clients are closed.
func TestShutdownClosesTheClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAwaiting()
		freed := make(chan struct{})
		a.close = func() { close(freed) }
		ended := make(chan error, 1)
		a.parts.start("part", func() { <-freed; ended <- nil })
		if took, err := a.end(t, ended); err != nil || took != a.limit+closeAfter {
			t.Errorf("error %v after %v, want none after %v", err, took, a.limit+closeAfter)
		}
	})
}

// What does not end at all is named, and not waited for.
func TestShutdownGivesUp(t *testing.T) {
	for part, want := range map[string]string{"fleet": "", supervisorPart: "the Python process has not ended within 10s"} {
		t.Run(part, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAwaiting()
				never := make(chan struct{})
				defer close(never) // or the test would leave a goroutine behind
				a.parts.start(part, func() { <-never })
				took, err := a.end(t, make(chan error))
				if took != a.limit+giveUpAfter || took > a.limit+maxShutdown || !a.closed.Load() {
					t.Errorf("it took %v, clients closed: %v; want %v and them closed before", took, a.closed.Load(), a.limit+giveUpAfter)
				}
				switch log := a.log.String(); {
				case want == "" && (err != nil || !strings.Contains(log, `msg="shutdown incomplete" parts=[fleet]`)):
					t.Errorf("error %v, log %q; want no error and the part in the log", err, log)
				case want != "" && (err == nil || !strings.Contains(err.Error(), want) || log != ""):
					t.Errorf("error %v, log %q; want an error with %q", err, log, want)
				}
			})
		})
	}
}
