package queue_test

import (
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// asynq waits for each of its commands, one part after the other; a frozen Redis answers none.
func TestStopDoesNotWaitForAFrozenRedis(t *testing.T) {
	b := newBench(t)
	server := redistest.Start(t)
	b.url = server.URL + "?read_timeout=10s"
	b.start(echo)
	b.eventually(func() string {
		if commandCount(t, server.Client)["blmove"] == 0 {
			return "the consumer does not wait for tasks"
		}
		return ""
	})
	server.Freeze()
	defer server.Thaw()
	time.Sleep(1500 * time.Millisecond) // until the forwarder has sent something
	begun := time.Now()
	b.stop()
	// Without a limit of ours it takes what the client's timeouts and retries come to, several times over.
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it took %v to stop", took)
	}
}
