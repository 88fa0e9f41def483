package dashboard

import "time"

// staleAfter is how old a reading may be and still count as the present: while somebody looks there is one each second,
// and each takes no longer than readWithin.
const staleAfter = 5 * time.Second

// old tells whether what was read last is not to be taken for the present.
func old(now time.Time, err string, read time.Time) bool {
	return err != "" || now.Sub(read) > staleAfter
}

// QueuesOld tells whether the queues are not known at present.
func (s sheet) QueuesOld() bool { return old(s.At, s.Queues.Err, s.Queues.At) }

// FailuresOld is QueuesOld for the failed tasks; how many there are is read with the queues.
func (s sheet) FailuresOld() bool { return s.QueuesOld() || old(s.At, s.Failures.Err, s.Failures.At) }

// FleetOld is QueuesOld for the workers.
func (s sheet) FleetOld() bool { return old(s.At, s.Fleet.Err, s.Fleet.At) }

// FailuresAt is when the failed tasks and their numbers were known last.
func (s sheet) FailuresAt() time.Time {
	if s.QueuesOld() && s.Queues.At.Before(s.Failures.At) {
		return s.Queues.At
	}
	return s.Failures.At
}

// PeerTone is how a worker is; how it was says nothing.
func (s sheet) PeerTone(p Peer) Tone {
	if s.FleetOld() {
		return Quiet
	}
	return p.Tone
}
