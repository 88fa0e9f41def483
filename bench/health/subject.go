package main

import (
	"context"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// subject is a system that is looked at: our worker or a peer.
type subject interface {
	name() string
	// start starts it; surfaces is called afterwards.
	start(ctx context.Context, d *bed) error
	// surfaces are what tells whether it is healthy.
	surfaces(d *bed) []surface
	// enqueue gives it a task and returns its id.
	enqueue(ctx context.Context, d *bed, t task) (id string, err error)
	// done reports whether a task has succeeded.
	done(ctx context.Context, d *bed, id string) (bool, error)
	// process is the worker: the one that takes tasks.
	process() *programs.Process
	// handlers is the process id of that which runs the handlers, which may be the same; 0: there is none.
	handlers(ctx context.Context, d *bed) int
	// pending is the key of the list in which tasks wait.
	pending() string
}

// surface is one place that tells whether a worker is healthy.
type surface struct {
	name  string
	every time.Duration
	ask   func(ctx context.Context) answer
}

// colour is what a surface says.
type colour string

const (
	green  colour = "green"
	red    colour = "red"
	silent colour = "silent" // no answer in time, or none that could be read
	// neither is an answer that calls the worker neither healthy nor unhealthy: its process is being replaced as planned.
	neither colour = "neither"
)

// answer is what a surface said once.
type answer struct {
	colour colour
	detail string // the reason, in one line
}

// askTimeout is how long an answer may take, as long as healthcheck's.
const askTimeout = 3 * time.Second

func isGreen(ok bool, detail string) answer {
	if ok {
		return answer{green, ""}
	}
	return answer{red, oneLine(detail)}
}

func noAnswer(err error) answer { return answer{silent, oneLine(err.Error())} }

func oneLine(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

func splitLines(text string) []string { return strings.Split(strings.TrimSpace(text), "\n") }

// clientFields reads a line of CLIENT LIST.
func clientFields(line string) map[string]string {
	fields := map[string]string{}
	for _, f := range strings.Fields(line) {
		name, value, _ := strings.Cut(f, "=")
		fields[name] = value
	}
	return fields
}
