package worker

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/receipt"
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
	add := adder(&c)
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
	addFailure(add, beat, "writes no heartbeat", "the heartbeat")
	return c
}

// consumption is what the health of a checker is told of its own work: the lease of the leader, and the leader's rounds.
func (c *CheckerProcess) consumption() health.Consumption {
	return judgeChecker(c.fleet.service.Receipt(), c.refusedAtStart())
}

// judgeChecker joins what hinders a checker; start is why it has not begun.
func judgeChecker(r fleet.Receipt, start *receipt.Failure) health.Consumption {
	c := health.Consumption{Unknown: r.Answered.IsZero()}
	add := adder(&c)
	addFailure(add, start, "", "this process")
	addFailure(add, r.Lease, "does not ask for the lease of the fleet's leader", "the lease of the fleet's leader")
	addFailure(add, r.Round, "does not look after the fleet, as its leader", "the check of the fleet")
	return c
}

// adder returns a function that adds one hindrance.
func adder(c *health.Consumption) func(reason string, ours, broker, probed bool) {
	return func(reason string, ours, broker, probed bool) {
		c.Reasons = append(c.Reasons, reason)
		c.Worker, c.Broker, c.Probed = c.Worker || ours, c.Broker || broker, c.Probed && probed
	}
}

// addFailure adds what hinders a part of the process, if anything does: idle says what it does not do when it hangs, what
// is what Redis refuses.
func addFailure(add func(reason string, ours, broker, probed bool), f *receipt.Failure, idle, what string) {
	switch {
	case f == nil:
	case f.NotTried:
		add("This process "+idle+since(f.Since)+": a part of it hangs.", true, true, false)
	default:
		add(refusal(what, what, f.Since, f.Err), false, true, false)
	}
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
