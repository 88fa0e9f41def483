package queue

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// loseAfter carries requests out, calls a function, and loses their answers.
type loseAfter func()

func (loseAfter) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (loseAfter) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (f loseAfter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		f()
		for _, cmd := range cmds {
			cmd.SetErr(io.EOF)
		}
		return errors.Join(err, io.EOF)
	}
}

// The answer to a claim and to the cycle behind it is lost, whether another cycle has overtaken that one or not: the task
// comes all the same.
func TestLostAnswerBehindAClaim(t *testing.T) {
	server := redistest.Start(t)
	b := connected(t, server.URL, server.Client)
	var overtake bool
	blocking := b.open()
	blocking.AddHook(loseAfter(func() {
		if overtake {
			b.cycle(cycleRequest{})
		}
	}))
	in := newInbox()
	w := newWatcher("q", "w", blocking, &cycler{
		cycles: *b.cycles, queue: &queueState{name: "q"}, inbox: in, loop: &loop{receipts: newReceipts([]string{"q"}, 0, nil)},
		log: slog.New(slog.DiscardHandler),
	})
	b.cycle(cycleRequest{})
	for _, overtake = range []bool{false, true} {
		b.enqueue(1)
		b.number++
		w.claimAndCycle(t.Context(), cycleRequest{number: b.number, take: 1, behindClaim: true})
		events := in.take(nil)
		if len(events) != 1 || events[0].kind != eventWaited || events[0].cycle.err != nil || !events[0].cycle.recalled {
			t.Fatalf("overtaken %v: %d events, the first %+v", overtake, len(events), events)
		}
		taken := events[0].cycle.reply.taken
		if len(taken) != 1 || taken[0].id != "t1" {
			t.Fatalf("overtaken %v: took %+v, want t1", overtake, taken)
		}
		b.cycle(cycleRequest{items: []item{b.item(taken[0], endDone)}})
	}
}
