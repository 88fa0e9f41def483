package dashboard

import "time"

// staleAfter is how old a reading may be and still count as the present: while a page is open there is one each second,
// and each takes no longer than readTimeout.
const staleAfter = 5 * time.Second

// stale reports whether what was read last does not describe the present.
func stale(now time.Time, err string, read time.Time) bool {
	return err != "" || now.Sub(read) > staleAfter
}

// QueuesStale reports whether the queues are not known at present.
func (p page) QueuesStale() bool { return stale(p.At, p.Queues.Err, p.Queues.At) }

// FailuresStale is QueuesStale for the failed tasks; how many there are is read with the queues.
func (p page) FailuresStale() bool {
	return p.QueuesStale() || stale(p.At, p.Failures.Err, p.Failures.At)
}

// FleetStale is QueuesStale for the workers.
func (p page) FleetStale() bool { return stale(p.At, p.Fleet.Err, p.Fleet.At) }

// FailuresAt is when the failed tasks and their numbers were known last.
func (p page) FailuresAt() time.Time {
	if p.QueuesStale() && p.Queues.At.Before(p.Failures.At) {
		return p.Queues.At
	}
	return p.Failures.At
}

// SystemStale is QueuesStale for what else is known of the system.
func (p page) SystemStale() bool { return stale(p.At, p.System.Err, p.System.At) }

// DeathTone is the tone of who died, quiet when that is not of the present.
func (p page) DeathTone() Tone {
	if p.SystemStale() {
		return Quiet
	}
	return Warn
}

// WorkerTone is the tone of a worker, quiet when the fleet is stale.
func (p page) WorkerTone(w Worker) Tone {
	if p.FleetStale() {
		return Quiet
	}
	return w.Tone
}
