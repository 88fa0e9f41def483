package queue

import (
	"context"
	"encoding/base64"
	"log/slog"
	"maps"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/timer"
	"github.com/runqy/runqy-worker/internal/wakeup"
)

const (
	viewPayloadMost = 4 << 10 // bytes of a payload that a view shows
	viewBacklogMost = 10_000  // tasks whose views wait for Redis; beyond, the views of further ones are skipped
	viewBatch       = 256     // tasks written in one round trip
	// viewProgressEvery is how long reported progress may wait to be written, together with that of other tasks.
	viewProgressEvery = 500 * time.Millisecond
)

// taskViews writes the readable hash of each task, asynq:t:<id>, behind the work: it never makes a task wait. Changes
// of one task are merged while they wait and keep their order. A nil *taskViews writes nothing.
type taskViews struct {
	client redis.UniversalClient
	script *redis.Script
	ttl    time.Duration
	worker string
	log    *slog.Logger
	wake   wakeup.Signal // something waits
	lists  *listViews    // follow what is written here; nil when there are none
	moving wakeup.Signal // some task has made progress

	mu      sync.Mutex // guards the rest
	waiting map[string]map[string]string
	skipped int
	// progress is that of tasks with the handler, not yet among what waits: it changes faster than it is worth writing.
	progress map[string]progress
}

func newTaskViews(client redis.UniversalClient, script *redis.Script, ttl time.Duration, worker string, log *slog.Logger) *taskViews {
	return &taskViews{
		client: client, script: script, ttl: ttl, worker: worker, log: log,
		wake: wakeup.New(), waiting: make(map[string]map[string]string),
		moving: wakeup.New(), progress: make(map[string]progress),
	}
}

func (v *taskViews) started(t *Task, at time.Time) {
	if v == nil {
		return
	}
	v.takeProgress(t.ID) // of an attempt before this one
	v.put(t.ID, map[string]string{
		"id": t.ID, "type": t.Type, "queue": t.Queue, "state": "active", "payload": PayloadText(t.Payload),
		"retried": strconv.Itoa(t.RetryCount), "max_retry": strconv.Itoa(t.MaxRetry),
		"timeout": viewSeconds(t.Timeout), "enqueued": viewTime(t.Enqueued), "started": viewTime(at),
		"completed": "", "duration_seconds": "", "worker": v.worker, "error": "", "crashes": strconv.Itoa(t.Crashes),
		"progress": "", "progress_message": "",
	})
}

// progressed has a task's progress written, at most every viewProgressEvery.
func (v *taskViews) progressed(id string, p progress) {
	if v == nil {
		return
	}
	v.mu.Lock()
	if _, known := v.progress[id]; known || len(v.progress) < viewBacklogMost {
		v.progress[id] = p
	}
	v.mu.Unlock()
	v.moving.Wake()
}

// takeProgress returns the fields of progress that is not yet among what waits, and forgets it.
func (v *taskViews) takeProgress(id string) map[string]string {
	v.mu.Lock()
	defer v.mu.Unlock()
	p, ok := v.progress[id]
	if !ok {
		return nil
	}
	delete(v.progress, id)
	return p.fields()
}

// queueProgress puts all progress among what waits.
func (v *taskViews) queueProgress() {
	v.mu.Lock()
	for id, p := range v.progress {
		v.merge(id, p.fields())
	}
	clear(v.progress)
	v.mu.Unlock()
	v.wake.Wake()
}

func (p progress) fields() map[string]string {
	fields := map[string]string{"progress": "", "progress_message": p.message}
	if p.reported {
		fields["progress"] = strconv.FormatFloat(math.Round(p.fraction*1e4)/1e4, 'f', -1, 64)
	}
	return fields
}

// acknowledged writes what asynq was told to do with the task. stored is the message it wrote back, if it did.
func (v *taskViews) acknowledged(a *attempt, out outcome, stored *message) {
	if v == nil {
		return
	}
	now := time.Now()
	fields := map[string]string{"state": string(out), "worker": v.worker}
	maps.Copy(fields, v.takeProgress(a.task.ID))
	if !a.started.IsZero() {
		fields["duration_seconds"] = viewSeconds(now.Sub(a.started))
	}
	if out == outcomeDone {
		fields["completed"] = viewTime(now)
	}
	if stored != nil {
		fields["error"] = stored.ErrorMsg
		fields["retried"] = strconv.Itoa(stored.Retried)
	}
	v.put(a.task.ID, fields)
}

func (v *taskViews) crashed(t *Task, crashes int) {
	if v == nil || crashes < 1 {
		return
	}
	v.put(t.ID, map[string]string{"crashes": strconv.Itoa(crashes)})
}

func (v *taskViews) requeued(t *Task) {
	if v == nil {
		return
	}
	v.takeProgress(t.ID)
	v.put(t.ID, map[string]string{
		"id": t.ID, "queue": t.Queue, "state": string(outcomePending), "started": "", "worker": "",
		"progress": "", "progress_message": "",
	})
}

func (v *taskViews) put(id string, fields map[string]string) {
	v.mu.Lock()
	v.merge(id, fields)
	v.mu.Unlock()
	v.wake.Wake()
}

// merge puts fields among what waits. The caller holds mu.
func (v *taskViews) merge(id string, fields map[string]string) {
	if waiting := v.waiting[id]; waiting != nil {
		maps.Copy(waiting, fields)
	} else if len(v.waiting) < viewBacklogMost {
		v.waiting[id] = fields
	} else {
		v.skipped++
	}
}

// run writes what waits until ctx is over, and then once more.
func (v *taskViews) run(ctx context.Context) {
	moving := v.moving.C() // nil until progress may be written again
	rest := time.NewTimer(time.Hour)
	rest.Stop()
	defer rest.Stop()
	for {
		select {
		case <-v.wake.C():
			if !v.flush(ctx) {
				_ = timer.Sleep(ctx, time.Second) // the loop asks ctx
			}
			v.lists.refreshSoon()
		case <-moving:
			moving = nil
			rest.Reset(viewProgressEvery)
			v.queueProgress()
		case <-rest.C:
			moving = v.moving.C()
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			v.flush(last)
			return
		}
	}
}

// flush writes all that waits. What Redis did not take waits again, under what has changed since.
func (v *taskViews) flush(ctx context.Context) bool {
	v.mu.Lock()
	batch, skipped := v.waiting, v.skipped
	v.waiting, v.skipped = make(map[string]map[string]string), 0
	v.mu.Unlock()
	if skipped > 0 {
		v.log.Warn("task views skipped", "tasks", skipped)
	}
	for len(batch) > 0 {
		ids := make([]string, 0, viewBatch)
		_, err := v.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for id, fields := range batch {
				args := []any{v.ttl.Milliseconds()}
				for name, value := range fields {
					args = append(args, name, value)
				}
				// A script, so that no hash is left without its time to live; a transaction may not span the slots of
				// Redis Cluster. Eval, not EvalSha: inside a pipeline there is no second chance for a script that Redis
				// has forgotten.
				v.script.Eval(ctx, pipe, []string{ViewKey(id)}, args...)
				if ids = append(ids, id); len(ids) == viewBatch {
					break
				}
			}
			return nil
		})
		if err != nil {
			v.log.Debug("task view write failed", "tasks", len(batch), "error", err)
			v.restore(batch)
			return false
		}
		for _, id := range ids {
			delete(batch, id)
		}
	}
	return true
}

func (v *taskViews) restore(batch map[string]map[string]string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, fields := range batch {
		if newer := v.waiting[id]; newer != nil {
			maps.Copy(fields, newer)
		} else if len(v.waiting) >= viewBacklogMost {
			v.skipped++
			continue
		}
		v.waiting[id] = fields
	}
	v.wake.Wake()
}

// PayloadText shows the beginning of a payload, 4 KiB at most: as it is when it is text, else in base64.
func PayloadText(b []byte) string {
	cut := b[:min(len(b), viewPayloadMost)]
	text := strings.ToValidUTF8(string(cut), "")
	if len(cut)-len(text) < utf8.UTFMax && utf8.ValidString(text) { // at most the last character was cut in two
		if len(b) > len(cut) {
			return text + "… (" + strconv.Itoa(len(b)) + " bytes)"
		}
		if len(text) == len(b) {
			return text
		}
	}
	return "base64:" + base64.StdEncoding.EncodeToString(cut)
}

// viewTime is RFC 3339 in UTC with milliseconds, or empty.
func viewTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// viewSeconds is a plain decimal number of seconds.
func viewSeconds(d time.Duration) string {
	return strconv.FormatFloat(d.Round(time.Microsecond).Seconds(), 'f', -1, 64)
}
