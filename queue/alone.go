package queue

import "time"

const (
	aloneWait  = 60 * time.Second // how long the others may run on while a suspect waits to run alone
	alonePut   = 60 * time.Second // for how long it is then put off
	aloneTries = 4                // how often it is put off; then it waits without limit
)

// suspect is a task that has to run alone: the process has died so often while it ran beside others that either it or
// one of them takes the process down.
type suspect struct {
	attempt *attempt
	until   time.Time // when it is put off, unless it runs; zero: it waits without limit
}

// takeSuspect makes a taken task the one that runs alone next. There is one at a time; others go back.
func (l *loop) takeSuspect(a *attempt, now time.Time) {
	if l.suspect != nil {
		l.settle(a, endReturn)
		return
	}
	if a.postponed < aloneTries && now.Before(l.othersUntil) {
		l.putOff(a, now)
		return
	}
	s := &suspect{attempt: a}
	if a.postponed < aloneTries {
		s.until = now.Add(aloneWait)
	}
	l.setSuspect(s)
}

// putOff gives a suspect back for a while, in which this worker runs other tasks.
func (l *loop) putOff(a *attempt, now time.Time) {
	a.postponed++
	l.othersUntil = now.Add(alonePut)
	l.settle(a, endPostpone)
}

func (l *loop) setSuspect(s *suspect) {
	l.suspect = s
	l.alone.Store(s != nil)
}

// runSuspect runs it once nothing else is with the handler, or puts it off when that takes too long.
func (l *loop) runSuspect(now time.Time) {
	s := l.suspect
	switch {
	case s == nil || s.attempt.submitted:
	case s.attempt.ended:
		l.setSuspect(nil)
	case !l.gate.Open(): // for who knows how long
		l.settle(s.attempt, endReturn)
		l.setSuspect(nil)
	case l.submitted == 0 && len(l.held) == 0 && l.handler.Room().Free > 0:
		s.until, s.attempt.alone = time.Time{}, true
		l.log.Info("task runs alone", "queue", s.attempt.task.Queue, "task_id", s.attempt.task.ID, "suspicions", s.attempt.task.Suspicions)
		l.submit(s.attempt, now)
	case !s.until.IsZero() && !now.Before(s.until):
		l.putOff(s.attempt, now)
		l.setSuspect(nil)
	}
}
