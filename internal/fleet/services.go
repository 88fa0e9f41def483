package fleet

import "github.com/runqy/runqy-worker/internal/status"

// Serving reports whether the worker takes the tasks of its queues, now or when a slot is free.
func (w Worker) Serving() bool {
	return w.works() && w.Beat.Healthy && (w.Beat.Status == status.Running || w.Beat.Status == status.Restarting)
}

// Starting reports whether the worker has not begun to take tasks, and is about to.
func (w Worker) Starting() bool {
	return w.works() && w.Beat.Status == status.Starting
}

// works reports whether its process does its work, as far as Redis can tell. One that beats takes its tasks, although it
// cannot be pinged: for its credentials, its network, a firewall, or an address that is right on its own host only.
func (w Worker) works() bool {
	if w.State != status.Dead {
		return w.Alive
	}
	return w.Alive && w.Cause != CauseProcessGone && !silent(w.Worker)
}

// Services tells by queue who serves it; asynq counts the servers of plain asynq. A queue that is not in it is served by
// nobody.
func Services(workers []Worker, asynq map[string]int) map[string]status.Service {
	services := make(map[string]status.Service)
	for _, w := range workers {
		for _, q := range w.Beat.Queues {
			s := services[q]
			s.Add(w.Serving(), w.Starting())
			services[q] = s
		}
	}
	for q, n := range asynq {
		s := services[q]
		s.Asynq = n
		services[q] = s
	}
	return services
}
