package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/client"
)

// assignOne gives one task to one worker: the named one, or one that is free.
func (a *app) assignOne(ctx context.Context, rdb redis.UniversalClient, f enqueueFlags) error {
	cfg, err := a.loadElsewhere(nil)
	if err != nil {
		return err
	}
	c, err := fleetClient(cfg, rdb, true)
	if err != nil {
		return err
	}
	defer c.Close()
	dispatcher := c.NewDispatcher(client.DispatcherOptions{Interval: cfg.Fleet.Interval, Logger: a.log})
	info, worker, err := a.assign(ctx, dispatcher, c, f)
	if err != nil {
		return err
	}
	if !f.wait && f.output == "text" {
		_, err := fmt.Fprintf(a.out, "task %s is %s in queue %s for worker %s\n", info.ID, info.State, info.Queue, worker)
		return err
	}
	return a.printOrWait(ctx, c, f, info)
}

// waitNotice is how long --any-free waits before it prints that it does.
const waitNotice = 2 * time.Second

func (a *app) assign(ctx context.Context, dispatcher *client.Dispatcher, c *client.Client, f enqueueFlags,
) (client.TaskInfo, string, error) {
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
		case <-time.After(waitNotice):
			if !a.printUnserved(offering, c, f.task.Queue) && offering.Err() == nil {
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
