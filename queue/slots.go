package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// runAcrossSlots runs a cycle on Redis Cluster, where results and views do not live in the queue's slot: results first,
// of the tasks that are still ours, so that whatever sees a task gone finds its result; then the script; then views.
func (c *cycles) runAcrossSlots(ctx context.Context, r cycleRequest) (cycleReply, error) {
	ownsItem, ownsView, err := c.owned(ctx, r)
	if err != nil {
		return cycleReply{}, fmt.Errorf("cycle %d of queue %s: owners: %w", r.number, c.queue, err)
	}
	c.tellHeard()
	refusals, err := c.writeResults(ctx, r, ownsItem)
	if err != nil {
		return cycleReply{}, fmt.Errorf("cycle %d of queue %s: results: %w", r.number, c.queue, err)
	}
	c.tellHeard()
	sent := r
	if len(refusals) > 0 { // the task must not end without its result
		sent.items = append([]item(nil), r.items...)
		for i := range refusals {
			sent.items[i].end = endNothing
		}
	}
	reply, err := c.runScript(ctx, sent)
	if err != nil {
		return reply, err
	}
	c.tellHeard()
	for i, text := range refusals {
		if reply.statuses[i] == refused {
			if reply.refusals == nil {
				reply.refusals = make(map[int]string)
			}
			reply.refusals[i] = text
		}
	}
	reply.viewsDropped += c.writeViews(ctx, r, reply.statuses, ownsView)
	return reply, nil
}

func (c *cycles) tellHeard() {
	if c.heard != nil {
		c.heard()
	}
}

// owned tells of which items the task is still ours, and which views may be written.
func (c *cycles) owned(ctx context.Context, r cycleRequest) (items, views []bool, err error) {
	items, views = make([]bool, len(r.items)), make([]bool, len(r.views))
	args := make([]any, 0, 2*(len(r.items)+len(r.views)))
	for i := range r.items {
		args = append(args, r.items[i].id, r.items[i].owner)
	}
	for _, v := range r.views {
		args = append(args, v.id, v.owner)
	}
	if len(args) == 0 {
		return items, views, nil
	}
	answer, err := c.scripts.owned.Run(ctx, c.client, []string{taskKeyPrefix(c.queue)}, args...).Text()
	if err != nil {
		return nil, nil, err
	}
	if len(answer) != len(items)+len(views) {
		return nil, nil, unexpectedReply("owned", answer)
	}
	for i := range items {
		items[i] = answer[i] == '1'
	}
	for i := range views {
		views[i] = r.views[i].owner == "" || answer[len(items)+i] == '1'
	}
	return items, views, nil
}

// writeResults returns the errors of those that Redis refuses for good. Any other error is the whole cycle's.
func (c *cycles) writeResults(ctx context.Context, r cycleRequest, owned []bool) (map[int]string, error) {
	cmds := make(map[int]*redis.StatusCmd)
	pipe := c.client.Pipeline()
	for i := range r.items {
		if it := &r.items[i]; it.end == endDone && owned[i] {
			result := it.result
			if len(result) == 0 {
				result = []byte("null")
			}
			cmds[i] = pipe.Set(ctx, ResultKey(it.id), result, c.resultTTL)
		}
	}
	if len(cmds) == 0 {
		return nil, nil
	}
	_, _ = pipe.Exec(ctx) // the commands have their errors
	refusals := make(map[int]string)
	for i, cmd := range cmds {
		switch err := cmd.Err(); {
		case err == nil:
		case isReply(err):
			refusals[i] = err.Error()
		default:
			return nil, err
		}
	}
	return refusals, nil
}

// writeViews returns how many could not be written.
func (c *cycles) writeViews(ctx context.Context, r cycleRequest, statuses []itemStatus, owned []bool) (dropped int) {
	if !c.views {
		return 0
	}
	pipe := c.client.Pipeline()
	write := func(id string, fields []string, anew bool, ttl time.Duration) {
		if len(fields) == 0 {
			return
		}
		if anew {
			pipe.Del(ctx, ViewKey(id))
		}
		// Eval, not EvalSha: inside a pipeline there is no second chance for a script that Redis has forgotten.
		c.scripts.view.Eval(ctx, pipe, []string{ViewKey(id)}, viewArgs(ttl, fields)...)
	}
	for i, v := range r.views {
		if owned[i] {
			write(v.id, v.fields, v.anew, unendedTTL)
		}
	}
	for i := range r.items {
		if statuses[i] == applied {
			it := &r.items[i]
			ttl := unendedTTL
			if it.end == endDone || it.end == endArchive {
				ttl = c.resultTTL
			}
			write(it.id, it.view, it.viewAnew, ttl)
		}
	}
	cmds, _ := pipe.Exec(ctx) // the commands have their errors
	for _, cmd := range cmds {
		if cmd.Err() != nil {
			dropped++
		}
	}
	return dropped
}
