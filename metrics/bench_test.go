package metrics_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/metrics"
)

// twentyQueues is a worker that serves twenty queues, whose depths are known.
func twentyQueues() metrics.Sources {
	src := fullSources()
	depths := make(map[string]status.Depth)
	src.QueueNames = nil
	for i := range 20 {
		name := fmt.Sprint("queue", i)
		src.QueueNames = append(src.QueueNames, name)
		depths[name] = status.Depth{Pending: int64(i), Latency: time.Second}
	}
	src.Queues = func(context.Context) (map[string]status.Depth, error) { return depths, nil }
	return src
}

// BenchmarkScrape is what a scrape costs the worker, without the time that Redis takes.
func BenchmarkScrape(b *testing.B) {
	src := twentyQueues()
	reg := prometheus.NewRegistry()
	set, err := metrics.New(reg, src)
	if err != nil {
		b.Fatal(err)
	}
	set.Types([]string{"resize"})
	for i, q := range src.QueueNames {
		set.TaskFinished(q, "resize", fmt.Sprint("task-", i), time.Duration(i)*time.Millisecond, false)
	}
	handler := metrics.Handler(reg, slog.New(slog.DiscardHandler))
	for name, header := range map[string][2]string{
		"text": {"", ""}, "text gzip": {"", "gzip"}, "openmetrics gzip": {acceptOpenMetrics, "gzip"}, "protobuf": {acceptProtobuf, ""},
	} {
		b.Run(name, func(b *testing.B) {
			req := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", nil)
			req.Header.Set("Accept", header[0])
			req.Header.Set("Accept-Encoding", header[1])
			b.ReportAllocs()
			for b.Loop() {
				rec := httptest.NewRecorder()
				handler.ServeHTTP(rec, req)
				b.ReportMetric(float64(rec.Body.Len()), "bytes")
			}
		})
	}
}

func BenchmarkTaskFinished(b *testing.B) {
	set, _ := newSet(b, fullSources())
	b.ReportAllocs()
	for b.Loop() {
		set.TaskFinished("low", "resize", "6f1c7d0a-2f0c-4f6e-9d0a-4f6e9d0a2f0c", 3*time.Millisecond, false)
	}
}
