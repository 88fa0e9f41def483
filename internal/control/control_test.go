package control

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/redistest"
)

// A worker that was told to restart and cannot write its heartbeat any more is not an unknown one.
func TestRestartOfAWorkerThatFallsSilent(t *testing.T) {
	client, ctx := redistest.Start(t).Client, t.Context()
	key := heartbeat.Key("w1")
	if err := client.HSet(ctx, key, "nonce", "n1", "status", "running", "started", "2026-01-02T03:04:05Z", "python_pid", "7").Err(); err != nil {
		t.Fatal(err)
	}
	listening := client.Subscribe(ctx, Channel("w1"))
	defer listening.Close()
	if _, err := listening.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	waiting, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { // received from below
		_, err := RestartProcess(waiting, client, "w1")
		done <- err
	}()
	if _, err := listening.ReceiveMessage(ctx); err != nil {
		t.Fatal(err)
	}
	if err := client.Del(ctx, key).Err(); err != nil {
		t.Fatal(err)
	}
	err := <-done
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "the outcome is not known") {
		t.Errorf("error %v, want that the outcome is not known", err)
	}
}
