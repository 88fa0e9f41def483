package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/enqueue"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/queue"
)

// freshSender removes an older result before it enqueues: for --wait.
type freshSender struct{ *enqueue.Client }

// Enqueue implements fleet.Sender.
func (s freshSender) Enqueue(ctx context.Context, t enqueue.Task) (enqueue.Info, error) {
	return s.EnqueueFresh(ctx, t)
}

// assignOne gives one task to one worker: the named one, or one that is free.
func (a *app) assignOne(ctx context.Context, client redis.UniversalClient, f enqueueFlags) error {
	cfg, err := a.loadElsewhere(nil)
	if err != nil {
		return err
	}
	checker, done, err := fleetChecker(cfg, client, true)
	if err != nil {
		return err
	}
	defer done()
	tasks := enqueue.New(client)
	var sender fleet.Sender = tasks
	if f.wait {
		sender = freshSender{tasks}
	}
	dispatcher := fleet.NewDispatcher(fleet.DispatcherOptions{
		Roster: checker, Sender: sender, Assigner: queue.NewDirects(client), Interval: cfg.Fleet.Interval, Logger: a.log,
	})
	info, worker, err := a.assign(ctx, dispatcher, client, f)
	if err != nil {
		return err
	}
	if !f.wait && f.output == "text" {
		_, err := fmt.Fprintf(a.out, "task %s is %s in queue %s for worker %s\n", info.ID, info.State, info.Queue, worker)
		return err
	}
	return a.tellOrWait(ctx, client, f, info)
}

// sayAfter is how long --any-free waits without a word.
const sayAfter = 2 * time.Second

func (a *app) assign(ctx context.Context, dispatcher *fleet.Dispatcher, client redis.UniversalClient, f enqueueFlags) (enqueue.Info, string, error) {
	if f.worker != "" {
		info, err := dispatcher.Assign(ctx, f.worker, f.task)
		return info, f.worker, err
	}
	offering, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { _ = dispatcher.Run(offering) }) // it only ends by being stopped
	running.Go(func() {
		select {
		case <-offering.Done():
		case <-time.After(sayAfter):
			if !a.tellUnserved(offering, client, f.task.Queue) && offering.Err() == nil {
				fmt.Fprintf(a.errOut, "waiting for a free worker of queue %s\n", f.task.Queue)
			}
		}
	})
	info, worker, err := dispatcher.AssignAny(ctx, f.task)
	if err != nil && worker == "" && ctx.Err() != nil {
		err = fmt.Errorf("stopped waiting for a free worker of queue %s: the task is not enqueued", f.task.Queue)
	}
	return info, worker, err
}
