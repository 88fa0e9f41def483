package worker

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/metrics"
	"github.com/runqy/runqy-worker/queue"
)

// depthReader reads how much waits in queues; queue.Depths is one.
type depthReader interface {
	Read(ctx context.Context) (map[string]queue.Depth, error)
}

// metricQueues leaves out what could not be read: a zero would be taken for the truth.
func metricQueues(r depthReader) func(context.Context) map[string]metrics.Queue {
	return func(ctx context.Context) map[string]metrics.Queue {
		depths, err := r.Read(ctx)
		if err != nil {
			return nil
		}
		out := make(map[string]metrics.Queue, len(depths))
		for name, d := range depths {
			if d.Err == nil {
				out[name] = metrics.Queue{
					Pending: d.Pending, Active: d.Active, Scheduled: d.Scheduled, Retry: d.Retry,
					Archived: d.Archived, Completed: d.Completed, Latency: d.Latency, Paused: d.Paused,
				}
			}
		}
		return out
	}
}

func healthQueues(r depthReader) health.QueueSource {
	return func(ctx context.Context) ([]health.Queue, error) {
		depths, err := r.Read(ctx)
		if err != nil {
			return nil, err
		}
		out := make([]health.Queue, 0, len(depths))
		for name, d := range depths {
			out = append(out, health.Queue{
				Name: name, Paused: d.Paused, Pending: d.Pending, Active: d.Active, Scheduled: d.Scheduled, Retry: d.Retry,
				Archived: d.Archived, Completed: d.Completed, Latency: d.Latency, Err: d.Err,
			})
		}
		slices.SortFunc(out, func(a, b health.Queue) int { return strings.Compare(a.Name, b.Name) })
		return out, nil
	}
}

// depthPatience bounds what a probe waits for the queues' depth, which is an extra to it.
const depthPatience = 500 * time.Millisecond

// withDepth adds the number of pending tasks to a report, where Redis tells it in time.
func withDepth(rep health.Report, r depthReader) health.Report {
	if rep.Broker != health.Healthy {
		return rep
	}
	ctx, cancel := context.WithTimeout(context.Background(), depthPatience)
	defer cancel()
	depths, err := r.Read(ctx)
	if err != nil {
		return rep
	}
	for _, d := range depths {
		rep.QueueDepth += d.Pending
	}
	return rep
}
