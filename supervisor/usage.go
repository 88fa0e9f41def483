package supervisor

import (
	"time"

	"github.com/runqy/runqy-worker/supervisor/internal/proc"
)

// Usage is what the process takes of the machine, without what it started.
type Usage struct {
	PID      int
	CPU      time.Duration // user and system time since its start, all threads
	Resident int64         // bytes
}

// Usage reads the process' usage from the operating system; false when there is no process, or the system does not tell
// (it does on Linux).
func (s *Supervisor) Usage() (Usage, bool) {
	u := Usage{PID: s.snapshots.base.Load().PID}
	if u.PID == 0 {
		return u, false
	}
	var hasCPU, hasSize bool
	u.CPU, hasCPU = proc.CPUTime(u.PID)
	u.Resident, hasSize = proc.ResidentSize(u.PID)
	return u, hasCPU && hasSize
}
