package heartbeat

import (
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// The hash of a worker with eight tasks, as it is written and as another process reads it.
func BenchmarkBeat(b *testing.B) {
	now := time.Now()
	beat := Beat{
		Identity: remote("n1"), Started: now, Healthy: true, Queues: []string{"inference_default", "inference_slow"},
		ActiveTask: "1a438637-781f-4abc-a370-bc9013730d1c", Status: status.Running, State: status.Busy, LastBeat: now,
		Concurrency: 8, Processed: 123456, Interval: 5 * time.Second, TTL: 15 * time.Second,
	}
	for range 8 {
		beat.ActiveTasks = append(beat.ActiveTasks, beat.ActiveTask)
	}
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = beat.fields()
		}
	})
	fields, hash := beat.fields(), map[string]string{}
	for i := 0; i < len(fields); i += 2 {
		hash[fields[i]] = fields[i+1]
	}
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseBeat(hash); err != nil {
				b.Fatal(err)
			}
		}
	})
}
