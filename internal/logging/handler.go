package logging

import (
	"context"
	"log/slog"
)

// handler formats lines into a log's queue: what needs attention by way of urgent, which may use all of the queue.
type handler struct {
	log              *Log
	ordinary, urgent slog.Handler
}

// Enabled implements slog.Handler.
func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.ordinary.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		return h.urgent.Handle(ctx, r)
	}
	if h.log.skip() {
		return nil
	}
	return h.ordinary.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{log: h.log, ordinary: h.ordinary.WithAttrs(attrs), urgent: h.urgent.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	return handler{log: h.log, ordinary: h.ordinary.WithGroup(name), urgent: h.urgent.WithGroup(name)}
}

// entry is where the handler of one format writes a line.
type entry struct {
	log   *Log
	limit int
}

// Write implements io.Writer.
func (e entry) Write(line []byte) (int, error) {
	e.log.put(line, e.limit)
	return len(line), nil
}
