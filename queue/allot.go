package queue

import (
	"math"
	"slices"
	"time"
)

// This file decides how many tasks are taken, and from which queue.

// want is how many further tasks should be taken: those that the handler has room for, and as many as will end before
// the next cycle has brought others.
func (l *loop) want(now time.Time) int {
	if l.draining || l.suspect != nil || !l.gate.Open() {
		return 0
	}
	room := l.handler.Room()
	l.turn = max(1, min(int(room.Rate*turnTime.Seconds()), aheadCount))
	want := room.Free - len(l.held)
	if room.Rate*aheadMost.Seconds() >= 1 && !l.overdone {
		want += min(int(math.Ceil(room.Rate*l.nextAnswer().Seconds())), max(aheadFactor*l.opts.Concurrency, aheadCount))
	}
	for _, q := range l.queues {
		if !l.silent(q, now) {
			want -= q.asked
		}
	}
	return max(0, want)
}

// allot says how many tasks each queue's next cycle may take.
func (l *loop) allot(want int, now time.Time) {
	for _, q := range l.queues {
		q.take = 0
	}
	if want == 0 {
		return
	}
	if l.opts.StrictPriority {
		l.allotStrictly(want, now)
		return
	}
	var candidates []*queueState
	rest := min(emptyFor*time.Duration(len(l.queues)), emptyMost)
	for _, q := range l.queues {
		if l.silent(q, now) || !q.askable(now) {
			continue
		}
		if !q.empty || !q.watcher.armed.Load() && now.Sub(q.emptyAt) >= rest && !l.allEmpty(now) {
			candidates = append(candidates, q)
		}
	}
	if len(candidates) == 1 && !candidates[0].busy {
		candidates[0].take = want
		return
	}
	for want > 0 {
		q := nextByWeight(candidates)
		if q == nil || q.busy {
			return // its turn comes when its cycle is answered
		}
		n := min(l.turn, want)
		for _, other := range candidates {
			other.credit += n * other.weight
			q.credit -= n * other.weight
		}
		q.take += n
		want -= n
	}
}

// nextByWeight returns whose turn it is in the smooth weighted round robin; nil: nobody's.
func nextByWeight(queues []*queueState) *queueState {
	var next *queueState
	for _, q := range queues {
		if next == nil || q.credit+q.weight > next.credit+next.weight {
			next = q
		}
	}
	return next
}

// allotStrictly has the first queue asked that has not just had nothing; the next one is asked when that one has
// answered with fewer.
func (l *loop) allotStrictly(want int, now time.Time) {
	for _, q := range l.queues[min(l.strict, len(l.queues)):] {
		if !q.askable(now) {
			l.strict++
			continue
		}
		if !q.busy {
			q.take = want
		}
		return
	}
}

// awaitsTurn reports whether a queue will be asked, under strict priority, once those before it have answered: what was
// claimed from it can be taken then.
func (l *loop) awaitsTurn(q *queueState, want int) bool {
	return l.opts.StrictPriority && want > 0 && q.askable(l.looked) && slices.Index(l.queues, q) > l.strict
}

// askable reports whether a queue may be asked for tasks. Where outcomes are refused more of them would only pile up.
func (q *queueState) askable(now time.Time) bool {
	return !now.Before(q.paused) && q.stuck < q.mostStuck
}

// silent reports whether a queue's part of a Redis Cluster has not answered for long. The room that its cycle would fill
// is the other queues' meanwhile.
func (l *loop) silent(q *queueState, now time.Time) bool {
	return l.opts.Cluster && q.busy && now.Sub(q.askedAt) >= lookEvery
}

// allEmpty reports whether no queue that answers is thought to have tasks.
func (l *loop) allEmpty(now time.Time) bool {
	for _, q := range l.queues {
		if q.askable(now) && !l.silent(q, now) && !q.empty {
			return false
		}
	}
	return true
}

// arm waits for tasks in every queue where there is room and none has any.
func (l *loop) arm(want int, now time.Time) {
	idle := want > 0 && l.allEmpty(now)
	for _, q := range l.queues {
		if idle && q.askable(now) && !q.busy {
			switch {
			case len(l.queues) > 1 || l.opts.Cluster:
				q.watcher.arm()
			case q.waiting == 0:
				l.startWaiting(q, want, now)
			}
		} else if want == 0 || !q.askable(now) {
			q.watcher.disarm()
		}
	}
}

// passStrictly notes, under strict priority, which queue is asked next.
func (l *loop) passStrictly(q *queueState, asked, got int, reply *cycleReply) {
	i := slices.Index(l.queues, q)
	switch {
	case asked > 0 && (got < asked || reply.paused):
		if l.strict == i { // else a queue before it has had tasks meanwhile, or may have
			l.strict = i + 1
		}
	case asked > 0:
		l.strict = 0
	case reply.more && !reply.paused:
		l.strict = min(l.strict, i)
	}
}
