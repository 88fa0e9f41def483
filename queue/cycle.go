package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"
)

// ending is what becomes of a task whose attempt has ended.
type ending int

const (
	endDone       ending = iota // success: removed, or kept as completed for its retention
	endRetry                    // failed: waits in retry for delay
	endArchive                  // failed for good
	endReturn                   // not run: back to the head of pending, nothing charged, its age restored
	endReturnLast               // not run: to the end of pending, nothing charged, its age restored
	endPostpone                 // not run: waits in scheduled for delay, nothing charged
	endNothing                  // refused by the script: its result could not be written
)

// item is one ended attempt.
type item struct {
	id, owner string
	end       ending
	// message is what is stored with endRetry, endArchive, and endDone with a retention. The script appends to it when
	// the task failed or completed, so it must not say that itself ([message.failed], completedMessage).
	message   []byte
	delay     time.Duration // endRetry, endPostpone: in whole seconds, rounded up; 0 is at once
	retention time.Duration // endDone: > 0 keeps the task as completed
	uniqueKey string        // endDone: the lock that is released when the task still has it
	result    []byte        // endDone: JSON; nil is null
	// crashes and so on are the new values of the task's fields; -1 leaves one as it is. A task that is removed has none.
	crashes, suspicions, recoveries, postponed int
	view                                       []string // field, value, … of asynq:t:<id>; empty writes none
	viewAnew                                   bool     // the view has no other fields than these
}

// viewWrite changes the readable hash of a task that goes on.
type viewWrite struct {
	id     string
	owner  string   // written only while the task carries this stamp; "" writes it anyway
	fields []string // field, value, …
	anew   bool     // the view has no other fields than these
}

// cycleRequest is what one cycle is to do. After an error that is not Redis' word on it, the same request is sent
// again: it is applied once, however often it arrives.
type cycleRequest struct {
	number uint64 // greater than that of the request before, of this process and queue
	items  []item // at most as many as fit says
	views  []viewWrite
	take   int // how many tasks to take at most
	// behindClaim is a cycle that has no items and may be overtaken by later ones. What it took is answered again until
	// the next one of its kind takes something.
	behindClaim bool
}

// itemStatus is what became of an item.
type itemStatus int

const (
	applied itemStatus = iota
	fenced             // the task is no longer this owner's, or gone
	refused            // an error, whose text is in refusals; nothing was done, a later cycle may try again
)

// takenTask is a task that a cycle has taken.
type takenTask struct {
	id, owner                                  string
	message                                    []byte // must not be changed
	since                                      string // pending since, unix ns; "" when unknown
	crashes, suspicions, recoveries, postponed int
}

// cycleReply is what a cycle has done.
type cycleReply struct {
	statuses     []itemStatus   // by item
	refusals     map[int]string // the errors of refused items
	taken        []takenTask
	lost         []string // ids in pending, direct or active whose task is gone: dropped from the lists
	returned     int      // claims that went back to pending
	paused       bool
	more         bool   // pending or this worker's own list has further tasks
	failure      string // an error in the middle of the takes; what was taken before it is in taken
	viewsDropped int
	warning      string    // an error in what belongs to no item and no take: lease, counters, trimming, claims
	now          time.Time // Redis' TIME
}

// errStale says that a cycle came after a later one of the same process and queue; nothing was done.
var errStale = errors.New("the cycle comes after a later one")

// cycles runs the cycle script for one queue of one worker process. It keeps no state: the caller counts the requests.
type cycles struct {
	client               redis.UniversalClient // sends nothing twice by itself
	scripts              scripts
	queue, worker, nonce string
	resultTTL            time.Duration // of results, and of the views of tasks that have ended
	views                bool
	cluster              bool // results and views live in other slots than the queue
	checksums            *dumpChecksums
	heard                func() // Redis has answered one of several requests that make a cycle; nil: nobody listens
}

// unendedTTL is how long the view of a task that may still run is kept: without end but for tasks that others delete.
const unendedTTL = 90 * 24 * time.Hour

// run sends one request, once.
func (c *cycles) run(ctx context.Context, r cycleRequest) (cycleReply, error) {
	if c.cluster {
		return c.runAcrossSlots(ctx, r)
	}
	return c.runScript(ctx, r)
}

func (c *cycles) runScript(ctx context.Context, r cycleRequest) (cycleReply, error) {
	return c.answer(r, c.scripts.cycle.Run(ctx, c.client, c.keys(), c.args(r)...))
}

// runBehindClaim waits for a pending task for up to a time, brings it into the worker's own list, and runs a cycle then,
// all in one request; the cycle runs in any case. The first error is that of the claim: redis.Nil when none came.
func (c *cycles) runBehindClaim(ctx context.Context, blocking redis.UniversalClient, wait time.Duration, r cycleRequest) (claim error, reply cycleReply, err error) {
	pipe := blocking.Pipeline()
	move := pipe.BLMove(ctx, pendingKey(c.queue), directKey(c.queue, c.worker), "RIGHT", "LEFT", wait)
	cycle := c.scripts.cycle.EvalSha(ctx, pipe, c.keys(), c.args(r)...)
	_, _ = pipe.Exec(ctx) // each command has its own error
	reply, err = c.answer(r, cycle)
	return move.Err(), reply, err
}

func (c *cycles) keys() []string { return []string{keyPrefix(c.queue), ownPrefix(c.queue)} }

// answer reads what Redis has said to a request.
func (c *cycles) answer(r cycleRequest, cmd *redis.Cmd) (cycleReply, error) {
	raw, err := cmd.Slice()
	if err != nil {
		if strings.HasPrefix(err.Error(), "STALE ") {
			err = fmt.Errorf("%w: %w", errStale, err)
		}
		return cycleReply{}, fmt.Errorf("cycle %d of queue %s: %w", r.number, c.queue, err)
	}
	reply, err := c.parse(r, raw)
	if err != nil {
		return cycleReply{}, fmt.Errorf("cycle %d of queue %s: %w", r.number, c.queue, err)
	}
	return reply, nil
}

// forgetCycle removes the record of the last cycle of a process that runs no more cycles of that queue.
func forgetCycle(ctx context.Context, client redis.UniversalClient, script *redis.Script, queue, worker, nonce string) error {
	if err := script.Run(ctx, client, []string{cycleKey(queue, worker)}, nonce).Err(); err != nil {
		return fmt.Errorf("remove the record of the last cycle of worker %s in queue %s: %w", worker, queue, err)
	}
	return nil
}

// stampPrefix is what all owner stamps of this process begin with.
func (c *cycles) stampPrefix() string { return c.worker + "|" + c.nonce + "|" }

// args writes a request as the script reads it.
func (c *cycles) args(r cycleRequest) []any {
	a := newArguments(r, c.checksums)
	a.text(c.nonce)
	a.text(strconv.FormatUint(r.number, 10))
	a.text(c.worker)
	a.number(r.take)
	a.text(c.ttl(!c.cluster))
	a.text(c.ttl(c.views && !c.cluster))
	a.number(len(r.items))
	views := r.views
	if c.cluster || !c.views {
		views = nil
	}
	a.number(len(views))
	a.text(c.queue)
	if r.behindClaim {
		a.text("1")
	} else {
		a.text("")
	}
	for _, v := range views {
		a.text(v.id)
		a.text(v.owner)
		a.number(viewCount(v.fields, v.anew))
		a.texts(v.fields)
	}
	prefix := c.stampPrefix()
	for i := range r.items {
		if it := &r.items[i]; c.cluster || !a.simple(it, prefix, c.views) {
			a.item(it)
		}
	}
	return a.list
}

// ttl is the time to live of results and views for the script, or "" when it is not to write them.
func (c *cycles) ttl(here bool) string {
	if !here {
		return ""
	}
	return strconv.FormatInt(c.resultTTL.Milliseconds(), 10)
}

// parse reads the script's answer.
func (c *cycles) parse(r cycleRequest, raw []any) (cycleReply, error) {
	p := parser{values: raw}
	seconds, micros := p.text(), p.text()
	statuses, refusals, taken, lost := p.text(), p.list(), p.list(), p.list()
	reply := cycleReply{returned: int(p.number()), paused: p.number() == 1, more: p.number() == 1, failure: p.text()}
	reply.viewsDropped, reply.warning = int(p.number()), p.text()
	if len(statuses) != len(r.items) {
		p.bad = true
	}
	reply.statuses = make([]itemStatus, 0, len(statuses))
	for _, s := range []byte(statuses) {
		i := strings.IndexByte("afr", s)
		p.bad = p.bad || i < 0
		reply.statuses = append(reply.statuses, itemStatus(i))
	}
	reply.now = p.time(seconds, micros)
	for q := (parser{values: refusals}); len(q.values) > 0 || q.bad; {
		if reply.refusals == nil {
			reply.refusals = make(map[int]string)
		}
		i, err := strconv.Atoi(q.text())
		reply.refusals[i] = q.text()
		if p.bad = p.bad || q.bad || err != nil; p.bad {
			break
		}
	}
	// The owner stamp of a take ends with its index in the cycle, from 1.
	stamp := c.worker + "|" + c.nonce + "|" + strconv.FormatUint(r.number, 10) + "."
	if len(taken) > 0 {
		reply.taken = make([]takenTask, 0, len(taken)/takenFields)
	}
	for q := (parser{values: taken}); len(q.values) > 0 && !p.bad; p.bad = q.bad {
		t := takenTask{owner: stamp + strconv.FormatInt(q.number(), 10), id: q.text(), message: bytesOf(q.text())}
		t.setSince(q.text())
		reply.taken = append(reply.taken, t)
	}
	for q := (parser{values: lost}); len(q.values) > 0 && !p.bad; p.bad = q.bad {
		reply.lost = append(reply.lost, q.text())
	}
	if p.bad {
		return cycleReply{}, unexpectedReply("cycle", raw)
	}
	return reply, nil
}

// takenFields is how many values the script answers for a task that it has taken.
const takenFields = 4

// setSince reads since when the task was pending and, when it has any, its own counts, between commas.
func (t *takenTask) setSince(s string) {
	var counts string
	t.since, counts, _ = strings.Cut(s, ",")
	for _, to := range []*int{&t.crashes, &t.suspicions, &t.recoveries, &t.postponed} {
		if counts == "" {
			return
		}
		var number string
		number, counts, _ = strings.Cut(counts, ",")
		*to, _ = strconv.Atoi(number) // what is not one counts as none
	}
}

// bytesOf returns the bytes of a text without a copy, since it may be a payload of a megabyte. They must not be
// changed.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// parser reads the values of a script's answer one after the other. bad is set when one is not what it should be.
type parser struct {
	values []any
	bad    bool
}

func (p *parser) next() any {
	if len(p.values) == 0 {
		p.bad = true
		return nil
	}
	v := p.values[0]
	p.values = p.values[1:]
	return v
}

func (p *parser) text() string {
	s, ok := p.next().(string)
	p.bad = p.bad || !ok
	return s
}

func (p *parser) number() int64 {
	n, ok := p.next().(int64)
	p.bad = p.bad || !ok
	return n
}

func (p *parser) list() []any {
	l, ok := p.next().([]any)
	p.bad = p.bad || !ok
	return l
}

// time is Redis' TIME: seconds and microseconds.
func (p *parser) time(seconds, micros string) time.Time {
	s, err := strconv.ParseInt(seconds, 10, 64)
	us, err2 := strconv.ParseInt(micros, 10, 64)
	p.bad = p.bad || err != nil || err2 != nil
	return time.Unix(s, us*1000)
}
