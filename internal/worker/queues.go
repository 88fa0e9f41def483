package worker

import (
	"context"
	"time"

	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/status"
)

// depthReader reads how much waits in queues; queue.Depths is one.
type depthReader interface {
	Read(ctx context.Context) (map[string]status.Depth, error)
}

// metricQueues leaves out what could not be read: a zero would be taken for the truth.
func metricQueues(r depthReader) func(context.Context) map[string]status.Depth {
	return func(ctx context.Context) map[string]status.Depth {
		depths, err := r.Read(ctx)
		if err != nil {
			return nil
		}
		out := make(map[string]status.Depth, len(depths))
		for name, d := range depths {
			if d.Err == nil {
				out[name] = d
			}
		}
		return out
	}
}

// depthPatience bounds what a probe waits for the queues' depth, which is an extra to it.
const depthPatience = 500 * time.Millisecond

// withDepth adds the number of pending tasks to a report, where Redis tells it in time.
func withDepth(rep health.Report, r depthReader) health.Report {
	if rep.Broker != status.Healthy {
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
