package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkEcho measures round trips through Do to a Python process that does nothing but answer.
func BenchmarkEcho(b *testing.B) {
	for _, concurrency := range []int{1, 64} {
		b.Run(fmt.Sprintf("concurrency=%d", concurrency), func(b *testing.B) {
			o := testOptions("echo_v2.py", "--async")
			o.Concurrency = concurrency
			o.Logger = slog.New(slog.DiscardHandler)
			s, err := New(o)
			if err != nil {
				b.Fatalf("New: %v", err)
			}
			ended := make(chan error, 1)
			go func() { ended <- s.Run(context.Background()) }()
			for s.Snapshot().Status != StatusRunning {
				time.Sleep(time.Millisecond)
			}
			took := make([]time.Duration, b.N)
			var next atomic.Int64
			b.ResetTimer()
			done := make(chan struct{})
			for range concurrency {
				go func() {
					defer func() { done <- struct{}{} }()
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						begin := time.Now()
						reply, err := s.Do(context.Background(), Request{TaskID: fmt.Sprint("task-", i), Type: "echo", Payload: []byte(`{"n":1}`)})
						if err != nil || reply.Error != "" {
							b.Errorf("Do: %+v %v", reply, err)
						}
						took[i-1] = time.Since(begin)
					}
				}()
			}
			for range concurrency {
				<-done
			}
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			if err := s.Stop(context.Background()); err != nil {
				b.Errorf("Stop: %v", err)
			}
			if err := <-ended; err != nil {
				b.Errorf("Run: %v", err)
			}
		})
	}
}
