package status

import "fmt"

// Service says who takes the tasks of a queue. The zero value says that nobody does; where the workers could not be
// read there is no Service at all.
type Service struct {
	Workers  int // healthy workers that serve it
	Starting int // workers that serve it and have not begun
	Others   int // workers that serve it and take no tasks: not healthy, draining or dead
	Asynq    int // plain asynq servers that serve it
}

// Served reports whether a task that becomes pending is taken by anybody.
func (s Service) Served() bool { return s.Workers+s.Asynq > 0 }

// Stranded returns how many tasks of the queue wait for nobody: what is pending or due where nobody serves the queue,
// unless it is paused, and what is in groups where no asynq server does, since workers do not aggregate.
func (s Service) Stranded(d Depth) int64 {
	var n int64
	if !s.Served() && !d.Paused {
		n = d.Pending + d.Due
	}
	if s.Asynq == 0 {
		n += d.Aggregating
	}
	return n
}

// Fault says in a sentence, without the queue's name, which tasks are stranded, why, and for groups what to do. It is
// empty while none is.
func (s Service) Fault(d Depth) string {
	waiting := d.Pending + d.Due
	grouped := d.Aggregating > 0 && s.Asynq == 0
	switch {
	case s.Stranded(d) == 0:
		return ""
	case !grouped:
		return tasks(waiting) + " and " + s.nobody()
	case s.Served() || d.Paused || waiting == 0:
		return tasks(d.Aggregating) + " to be aggregated, which no worker does: " + aggregateRemedy
	}
	return fmt.Sprintf("%s and %s; %d more are to be aggregated, which no worker does: %s", tasks(waiting), s.nobody(), d.Aggregating, aggregateRemedy)
}

// aggregateRemedy is what an operator can do about tasks in groups.
const aggregateRemedy = "run an asynq server with a GroupAggregator for it, or enqueue without asynq.Group; " +
	"`asynq task runall` runs those that wait one by one"

// nobody says why nobody serves the queue.
func (s Service) nobody() string {
	switch {
	case s.Starting == 1:
		return "its worker is starting"
	case s.Starting > 1:
		return "its workers are starting"
	case s.Others == 0:
		return "no worker serves it"
	case s.Others == 1:
		return "no healthy worker serves it (1 takes no tasks)"
	}
	return fmt.Sprintf("no healthy worker serves it (%d take no tasks)", s.Others)
}

func tasks(n int64) string {
	if n == 1 {
		return "1 task waits"
	}
	return fmt.Sprintf("%d tasks wait", n)
}

// Add counts one worker that serves the queue: serving, when it takes tasks, or starting.
func (s *Service) Add(serving, starting bool) {
	switch {
	case serving:
		s.Workers++
	case starting:
		s.Starting++
	default:
		s.Others++
	}
}
