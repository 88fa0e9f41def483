package supervisor

import "time"

// Usage is what the process takes of the machine, without what it started.
type Usage struct {
	PID      int
	CPU      time.Duration // user and system time since its start, all threads
	Resident int64         // bytes
}

// Usage reads the process' usage from the operating system; false when there
// is no process, or the system does not tell (it does on Linux).
func (s *Supervisor) Usage() (Usage, bool) {
	u := Usage{PID: s.base.Load().PID}
	if u.PID == 0 {
		return u, false
	}
	var there, weighed bool
	u.CPU, there = cpuTime(u.PID)
	u.Resident, weighed = residentSize(u.PID)
	return u, there && weighed
}
