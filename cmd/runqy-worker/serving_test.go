package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
)

func TestEnqueueSaysThatNobodyServesTheQueue(t *testing.T) {
	s := redistest.Start(t)
	for flag, stopped := range map[string]string{"--wait": "it stays in the queue", "--any-free": "the task is not enqueued"} {
		t.Run(flag, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			errOut := &untilText{text: "no live worker serves queue noqueue", seen: cancel}
			a := &app{in: strings.NewReader(""), out: &bytes.Buffer{}, errOut: errOut}
			code := a.run(ctx, []string{"enqueue", "noqueue", "t", flag, "--redis", s.URL})
			got := errOut.String()
			if code != exitFailure || strings.Count(got, errOut.text) != 1 || !strings.Contains(got, stopped) || strings.Contains(got, "context canceled") {
				t.Errorf("exit code %d with the standard error %q, want 1 and one warning", code, got)
			}
		})
	}
}

// A task that is only put on the queue is so all the same, and scripts that look at the exit code go on.
func TestEnqueueWarnsOfAQueueThatNobodyServes(t *testing.T) {
	s := redistest.Start(t)
	file := filepath.Join(t.TempDir(), "tasks")
	if err := os.WriteFile(file, []byte(`{"payload": 1}`+"\n"+`{"payload": 2, "queue": "other"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args     []string
		out      string
		warnings []string
	}{
		{[]string{"inference_defualt", "t"}, "is pending in queue inference_defualt\n", []string{"warning: no live worker serves queue inference_defualt"}},
		{[]string{"inference_defualt", "t", "-o", "json"}, `"queue":"inference_defualt"`, []string{"inference_defualt"}},
		{
			[]string{"inference_defualt", "t", "--from-file", file}, "2 tasks enqueued, 0 bad lines\n",
			[]string{"serves queue inference_defualt", "serves queue other "},
		},
	} {
		var out, errOut bytes.Buffer
		a := &app{in: strings.NewReader(""), out: &out, errOut: &errOut}
		code := a.run(t.Context(), append([]string{"enqueue", "--redis", s.URL}, c.args...))
		if code != 0 || !strings.Contains(out.String(), c.out) || strings.Count(errOut.String(), "\n") != len(c.warnings) {
			t.Errorf("%q: exit code %d with %q and %q, want 0 and %d warnings", c.args, code, out.String(), errOut.String(), len(c.warnings))
		}
		for _, warning := range c.warnings {
			if !strings.Contains(errOut.String(), warning) {
				t.Errorf("%q: standard error is %q, want %q in it", c.args, errOut.String(), warning)
			}
		}
	}
}

// The workers of a paused queue are as healthy as those of any other.
func TestEnqueueSaysThatTheQueueIsPaused(t *testing.T) {
	s := redistest.Start(t)
	if err := asynq.NewInspectorFromRedisClient(s.Client).PauseQueue("q"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	errOut := &untilText{text: "queue q is paused: Resume on the dashboard, or 'asynq queue unpause q', lets it go on", seen: cancel}
	a := &app{in: strings.NewReader(""), out: &bytes.Buffer{}, errOut: errOut}
	code := a.run(ctx, []string{"enqueue", "q", "t", "--wait", "--redis", s.URL})
	if got := errOut.String(); code != exitFailure || strings.Count(got, errOut.text) != 1 {
		t.Errorf("exit code %d with the standard error %q, want 1 and one warning", code, got)
	}
}

// untilText calls seen when the text has been written.
type untilText struct {
	bytes.Buffer
	text string
	seen func()
}

func (u *untilText) Write(p []byte) (int, error) {
	n, err := u.Buffer.Write(p)
	if strings.Contains(u.String(), u.text) {
		u.seen()
	}
	return n, err
}
