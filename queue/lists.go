package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/timer"
	"github.com/runqy/runqy-worker/internal/wakeup"
)

const (
	upcomingTasks  = 100         // pending tasks per queue that have a readable hash
	upcomingMost   = 64 << 10    // bytes of a stored task that is decoded for its view
	listsShort     = 100_000     // entries up to which a copy is never older than one interval
	listsTimeShare = 100         // beyond, a refresh that took t is repeated after 100·t: 1 % of Redis' time
	listsAtLeast   = time.Minute // but no later than this

	// Between two beats the copies of lists up to listsEager entries follow what this worker does to them, at most once
	// in listsPause, and while they are not empty they are looked at every listsLook.
	listsEager = 10_000
	listsPause = 250 * time.Millisecond
	listsLook  = time.Second
)

// listViews keeps the plain copies of the pending and active lists, for people with redis-cli. One worker per queue
// does it at a time. It spans slots, so it does not exist on Redis Cluster.
type listViews struct {
	client   redis.UniversalClient
	scripts  scripts
	queues   []string
	worker   string
	interval time.Duration // of the heartbeat
	ttl      time.Duration // of the heartbeat
	log      *slog.Logger
	changed  wakeup.Signal // this worker has taken, ended or requeued a task
}

// listView is what is remembered of one queue from one refresh to the next.
type listView struct {
	due    time.Time
	length int64           // of the longer list; -1 when another worker copies them, or nothing is known
	known  map[string]bool // the pending tasks that have their readable hash
}

// eager reports whether the copies are kept fresh between beats.
func (v *listView) eager() bool { return v.length >= 0 && v.length <= listsEager }

// refreshSoon has the copies refreshed soon. It never blocks. A nil *listViews does nothing.
func (l *listViews) refreshSoon() {
	if l != nil {
		l.changed.Wake()
	}
}

// run refreshes the copies at each beat and after changes, until ctx is over.
func (l *listViews) run(ctx context.Context) {
	beats, looks := time.NewTicker(l.interval), time.NewTicker(listsLook)
	defer beats.Stop()
	defer looks.Stop()
	views := make(map[string]*listView, len(l.queues))
	for _, queue := range l.queues {
		views[queue] = &listView{length: -1}
	}
	beat, change := true, false
	for {
		for queue, v := range views {
			var err error
			switch {
			case beat && !time.Now().Before(v.due):
				err = l.refresh(ctx, queue, v)
			case v.eager() && (change || v.length > 0):
				v.length, err = l.copyLists(ctx, queue)
			}
			if err != nil && ctx.Err() == nil {
				l.log.Debug("list view refresh failed", "queue", queue, "error", err)
			}
		}
		if change {
			_ = timer.Sleep(ctx, listsPause) // ctx is asked below
		}
		beat, change = false, false
		select {
		case <-ctx.Done():
			return
		case <-beats.C:
			beat = true
		case <-looks.C:
		case <-l.changed.C():
			change = true
		}
	}
}

// copyLists copies one queue's lists, unless another worker does, and returns how long the longer one is; -1 when
// another does.
func (l *listViews) copyLists(ctx context.Context, queue string) (int64, error) {
	keys := []string{viewLeaseKey(queue), pendingKey(queue), activeKey(queue), pendingViewKey(queue), activeViewKey(queue)}
	longTTL := max(l.ttl, listsAtLeast+2*l.interval)
	lengths, err := l.scripts.lists.Run(ctx, l.client, keys,
		l.worker, l.ttl.Milliseconds(), listsShort, longTTL.Milliseconds()).Int64Slice()
	if errors.Is(err, redis.Nil) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("copy the lists of queue %s: %w", queue, err)
	}
	if len(lengths) != 2 {
		return -1, unexpectedReply("lists", lengths)
	}
	return max(lengths[0], lengths[1]), nil
}

// refresh does all that a beat asks for, and sets when the queue is due again.
func (l *listViews) refresh(ctx context.Context, queue string, v *listView) error {
	begun := time.Now()
	length, err := l.copyLists(ctx, queue)
	took := time.Since(begun)
	v.length = length
	if err != nil || length < 0 {
		v.known = nil
		return err
	}
	if v.known, err = l.upcoming(ctx, queue, v.known); err != nil {
		return err
	}
	if length > listsShort {
		v.due = time.Now().Add(min(listsTimeShare*took, listsAtLeast))
	}
	return nil
}

// upcoming writes the readable hashes of the tasks that are to run next, except those that had theirs at the last
// refresh, and returns which these are.
func (l *listViews) upcoming(ctx context.Context, queue string, known map[string]bool) (map[string]bool, error) {
	rows, err := l.scripts.upcoming.Run(ctx, l.client, []string{pendingKey(queue)},
		taskKeyPrefix(queue), upcomingTasks, upcomingMost).Slice()
	if err != nil {
		return nil, fmt.Errorf("read the next tasks of queue %s: %w", queue, err)
	}
	ids := make(map[string]bool, len(rows))
	pipe := l.client.Pipeline()
	for _, row := range rows {
		cells, ok := row.([]any)
		if !ok {
			return nil, unexpectedReply("upcoming", row)
		}
		fields, err := texts(cells)
		if err != nil || len(fields) != 6 {
			return nil, unexpectedReply("upcoming", row)
		}
		id := fields[0]
		ids[id] = true
		if known[id] {
			continue
		}
		l.scripts.view.Eval(ctx, pipe, []string{ViewKey(id), taskKey(queue, id)}, viewArgs(unendedTTL, pendingView(queue, fields))...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("write the views of the next tasks of queue %s: %w", queue, err)
	}
	return ids, nil
}

// pendingView returns the fields of a pending task's view from a row of the upcoming script.
func pendingView(queue string, row []string) []string {
	view := withoutRun([]string{
		"id", row[0], "queue", queue, "worker", "", "state", "pending", "enqueued", viewTime(unixNano(row[2])), "started", "",
		"crashes", row[3], "suspicions", row[4], "recoveries", row[5],
	})
	m, err := decodeMessage([]byte(row[1]))
	if err != nil || row[1] == "" {
		return view // too large or unreadable: what is known without it
	}
	return append(view, "type", m.Type, "payload", PayloadText(m.Payload), "retried", strconv.Itoa(m.Retried),
		"max_retry", strconv.Itoa(m.MaxRetry), "timeout", viewSeconds(m.Timeout), "error", m.ErrorMsg)
}
