package client

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// The age of a task is told by the clock that all share: a producer whose own is wrong makes no queue look old, or new.
func TestTheAgeOfATaskIsByRedisClock(t *testing.T) {
	for _, shift := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		t.Run(fmt.Sprint(shift), func(t *testing.T) {
			s := redistest.StartShifted(t, shift)
			c := newTestClient(t, s.Client)
			task := Task{Queue: "q", Type: "x", Payload: json.RawMessage("1"), ID: "first"}
			if _, err := c.Enqueue(t.Context(), task); err != nil {
				t.Fatal(err)
			}
			for _, round := range []string{"one", "two"} { // the script is there in the second, if not in the first
				s.Client.ScriptFlush(t.Context())
				many := []Task{task, task}
				many[0].ID, many[1].ID = round+"-0", round+"-1"
				if _, err := c.EnqueueMany(t.Context(), many); err != nil {
					t.Fatal(err)
				}
			}
			theirs := s.Client.Time(t.Context()).Val()
			for _, id := range []string{"first", "one-0", "one-1", "two-0", "two-1"} {
				ns, err := strconv.ParseInt(s.Client.HGet(t.Context(), taskKey("q", id), "pending_since").Val(), 10, 64)
				if at := time.Unix(0, ns); err != nil || at.Sub(theirs).Abs() > time.Minute {
					t.Errorf("task %s is pending since %v (%v), want about %v", id, at, err, theirs)
				}
			}
		})
	}
}

// What our script leaves in Redis is what asynq's does.
func TestEnqueuedAsByAsynq(t *testing.T) {
	s := redistest.Start(t)
	c := newTestClient(t, s.Client)
	if _, err := c.Enqueue(t.Context(), Task{Queue: "ours", Type: "x", Payload: json.RawMessage("1"), ID: "same"}); err != nil {
		t.Fatal(err)
	}
	plain := asynq.NewClientFromRedisClient(s.Client)
	if _, err := plain.Enqueue(asynq.NewTask("x", []byte("1")), asynq.Queue("them"), asynq.TaskID("same")); err != nil {
		t.Fatal(err)
	}
	ours, them := s.Client.HGetAll(t.Context(), taskKey("ours", "same")).Val(), s.Client.HGetAll(t.Context(), taskKey("them", "same")).Val()
	if got, want := slices.Sorted(maps.Keys(ours)), slices.Sorted(maps.Keys(them)); !slices.Equal(got, want) || ours["state"] != them["state"] {
		t.Errorf("the task is %q, want it as asynq's %q", ours, them)
	}
	if len(ours["msg"]) != len(them["msg"]) || len(ours["pending_since"]) != len(them["pending_since"]) {
		t.Errorf("the task is %q, want it as asynq's %q", ours, them)
	}
	keys := s.Client.Keys(t.Context(), "*").Val()
	slices.Sort(keys)
	if want := []string{"asynq:queues", "asynq:{ours}:pending", "asynq:{ours}:t:same", "asynq:{them}:pending", "asynq:{them}:t:same"}; !slices.Equal(keys, want) {
		t.Errorf("the keys are %q, want %q", keys, want)
	}
}
