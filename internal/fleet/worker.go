package fleet

import (
	"context"
	"errors"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
)

// The causes of [status.Dead]; they are label values of metrics.
const (
	CauseRefused          = string(rpc.KindRefused)      // its address refuses connections
	CauseTimeout          = string(rpc.KindTimeout)      // it does not answer in time
	CauseUnauthorised     = string(rpc.KindUnauthorised) // it does not accept our credentials
	CauseTLS              = string(rpc.KindTLS)          // no TLS connection comes about
	CauseHeartbeatExpired = "heartbeat_expired"          // it is silent in Redis
	CauseWrongIdentity    = "wrong_identity"             // another process answers at its address
	CauseProcessGone      = "process_gone"               // its process does not exist any more on this host
	CauseError            = string(rpc.KindOther)        // anything else
)

// Causes lists every cause of [status.Dead].
func Causes() []string {
	return []string{
		CauseRefused, CauseTimeout, CauseUnauthorised, CauseTLS, CauseHeartbeatExpired, CauseWrongIdentity,
		CauseProcessGone, CauseError,
	}
}

// Worker is a registered worker as a [Checker] classified it.
type Worker struct {
	// Worker is the registry's entry. Its Beat is the last one seen when there is no heartbeat any more (Alive is
	// false).
	heartbeat.Worker

	State  status.State
	Cause  string // one of the causes when State is Dead, else empty
	Reason string // why it is not Free, for people
	Proven bool   // its death is proven: its tasks may be taken from it

	DeadSince time.Time // when it was found dead, before it was anything else again; zero unless State is Dead

	Seen time.Time // when the registry's entry was read: its Age was that old then
}

// Pinger asks the worker at an address (host:port) how it is; rpc.Client is the real one.
type Pinger interface {
	// Ping returns by the end of ctx. An error should wrap an *rpc.Failure, which tells what kind of failure it is. It
	// is called from many goroutines at once.
	Ping(ctx context.Context, address string) (rpc.Pong, error)
}

// causeOf returns the cause of death that a failed ping stands for, and the error without its wrappings.
func causeOf(err error) (cause, detail string) {
	var f *rpc.Failure
	switch {
	case errors.As(err, &f):
		return string(f.Kind), f.Err.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return CauseTimeout, err.Error()
	}
	return CauseError, err.Error()
}
