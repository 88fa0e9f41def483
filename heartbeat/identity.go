package heartbeat

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
)

// Identity tells one process from every other, on this host and elsewhere.
type Identity struct {
	Host  string // host name
	PID   int    // process id as the process itself sees it
	Nonce string // 16 random hex digits, drawn once per process

	// The rest is what the death of a process can be proven with. They are empty or 0 where the system does not tell
	// (anything but Linux).
	BootID       string // identifies the running kernel of this host
	PIDNamespace string // e.g. "pid:[4026531836]"
	PIDStart     uint64 // start of the process in clock ticks since boot
}

// NewIdentity gathers the identity of the calling process with a fresh nonce. Call it once per process.
func NewIdentity() (Identity, error) {
	host, err := os.Hostname()
	if err != nil {
		return Identity{}, fmt.Errorf("read the host name: %w", err)
	}
	var nonce [8]byte
	rand.Read(nonce[:]) // never fails
	id := Identity{Host: host, PID: os.Getpid(), Nonce: hex.EncodeToString(nonce[:])}
	id.BootID, id.PIDNamespace, id.PIDStart = processProof(id.PID)
	return id, nil
}

// liveness is what can be said about a process of which only the identity is known.
type liveness int

const (
	livenessUnknown liveness = iota // it may run elsewhere, or cannot be seen
	livenessAlive                   // it runs on this host
	livenessGone                    // proven: it does not run any more
)

// livenessOf says whether the process that other names still runs. That is known only of a process of the same booted
// kernel and the same PID namespace as self; there a pid together with its start time names one process for ever.
func livenessOf(self, other Identity) liveness {
	if self.BootID == "" || self.PIDNamespace == "" ||
		self.BootID != other.BootID || self.PIDNamespace != other.PIDNamespace ||
		other.PID <= 0 || other.PIDStart == 0 {
		return livenessUnknown
	}
	return processLiveness(other.PID, other.PIDStart)
}
