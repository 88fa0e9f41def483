package supervisor

import (
	"sync/atomic"

	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

// readyMessage is what the process tells about itself in its ready message; nil before that.
type readyMessage struct{ atomic.Pointer[wire.Ready] }

// protocol2 reports whether the process speaks protocol 2.
func (r *readyMessage) protocol2() bool {
	m := r.Load()
	return m != nil && m.Protocol >= 2
}
