//go:build !linux

package heartbeat

// processProof has nothing to offer here: the death of a process cannot be proven, and a successor waits until the
// heartbeat has expired.
func processProof(int) (bootID, pidNamespace string, start uint64) { return "", "", 0 }

func processLiveness(int, uint64) liveness { return livenessUnknown }
