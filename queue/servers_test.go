package queue

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// A program in Go may serve a queue beside our workers, or in their place; the asynq server inside a worker serves
// nothing by itself.
func TestAsynqServers(t *testing.T) {
	server := redistest.Start(t)
	none, err := AsynqServers(t.Context(), server.Client)
	if err != nil || len(none) > 0 {
		t.Fatalf("without servers: %v, %v", none, err)
	}
	plain := asynq.NewServerFromRedisClient(server.Client, asynq.Config{
		Queues: map[string]int{"emails": 2, "low": 1}, LogLevel: asynq.FatalLevel, ShutdownTimeout: time.Second,
	})
	if err := plain.Start(asynq.NewServeMux()); err != nil {
		t.Fatal(err)
	}
	waitServers(t, server, map[string]int{"emails": 1, "low": 1})

	// What a worker's server writes has the mark.
	own := &broker{active: func() []ActiveTask { return nil }}
	for _, key := range server.Client.ZRange(t.Context(), serversKey, 0, -1).Val() {
		info := []byte(server.Client.Get(t.Context(), key).Val())
		marked := own.serverState([]any{5, info})[1].([]byte)
		server.Client.Set(t.Context(), "asynq:servers:{own}", marked, time.Minute)
		server.Client.ZAdd(t.Context(), serversKey, redis.Z{Member: "asynq:servers:{own}"})
	}
	server.Client.ZAdd(t.Context(), serversKey, redis.Z{Member: "asynq:servers:{expired}"})
	server.Client.Set(t.Context(), "asynq:servers:{garbage}", "\xff\xff\xff", time.Minute)
	server.Client.ZAdd(t.Context(), serversKey, redis.Z{Member: "asynq:servers:{garbage}"})
	waitServers(t, server, map[string]int{"emails": 1, "low": 1})

	plain.Stop() // it takes no task any more
	plain.Shutdown()
	waitServers(t, server, map[string]int{})

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := AsynqServers(ctx, server.Client); err == nil {
		t.Error("no error without an answer of Redis")
	}
}

func waitServers(t *testing.T, server *redistest.Server, want map[string]int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		got, err := AsynqServers(t.Context(), server.Client)
		if err == nil && maps.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("servers %v, %v, want %v", got, err, want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
