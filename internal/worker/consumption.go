package worker

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/queue"
)

// This file tells what hinders the worker's own work with Redis.

// consumption is what the health is told of it. It never blocks.
func (w *Worker) consumption() health.Consumption {
	return judge(w.consumer.Consumption(), w.beat.Failure(), w.cfg.Health.ConsumeTimeout)
}

// judge joins what hinders the queues and what the heartbeat; nil: nothing does.
func judge(consumption queue.Consumption, beat *heartbeat.Failure, consumeTimeout time.Duration) health.Consumption {
	c := health.Consumption{Probed: true}
	add := func(reason string, ours, broker, probed bool) {
		c.Reasons = append(c.Reasons, reason)
		c.Worker, c.Broker, c.Probed = c.Worker || ours, c.Broker || broker, c.Probed && probed
	}
	for _, h := range consumption.Hindrances {
		queues := "queue " + h.Queue
		if h.Queues > 1 {
			queues = fmt.Sprintf("queue %s and %d more", h.Queue, h.Queues-1)
		}
		switch h.Kind {
		case queue.NotAsked:
			c.Unknown = true
		case queue.CyclesNotTried:
			add("This process asks nothing of Redis for "+queues+since(h.Since)+": a part of it hangs.", true, true, h.Probed())
		case queue.NothingTaken:
			text := fmt.Sprintf("Tasks wait in %s and a slot is free, but for %s none could be taken%s.", queues, consumeTimeout, since(h.Since))
			add(text, true, false, h.Probed())
		case queue.CyclesRefused, queue.CyclesUnanswered:
			add(refusal("to serve "+queues, queues, h.Since, h.Err), false, true, h.Probed())
		case queue.OutcomesRefused:
			add(refusal("the outcomes of "+queues, queues, h.Since, h.Err), false, true, h.Probed())
		case queue.TakesRefused:
			add(refusal("to hand out the tasks of "+queues, queues, h.Since, h.Err), false, true, h.Probed())
		}
	}
	switch {
	case beat == nil:
	case beat.NotTried:
		add("This process writes no heartbeat"+since(beat.Since)+": a part of it hangs.", true, true, false)
	default:
		add(refusal("the heartbeat", "the heartbeat", beat.Since, beat.Err), false, true, false)
	}
	return c
}

// since is of a clock, so that the text stays the same for as long as its cause does.
func since(t time.Time) string { return " since " + t.UTC().Format("15:04:05 UTC") }

// refusal says in Redis' own words that it refuses something, or that it does not answer for it.
func refusal(refused, unanswered string, at time.Time, err error) string {
	var reply redis.Error
	switch {
	case errors.As(err, &reply):
		words, _, _ := strings.Cut(reply.Error(), " script: ") // which of our scripts says nothing to an operator
		return "Redis refuses " + refused + since(at) + ": " + strings.TrimSuffix(words, ".") + "."
	case err != nil:
		return "Redis does not answer for " + unanswered + since(at) + ": " + err.Error() + "."
	}
	return "Redis does not answer for " + unanswered + since(at) + "."
}
