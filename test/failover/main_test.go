// Package failover tests workers whose Redis fails over, on Sentinel and on a cluster, and workers behind a network
// that is cut.
package failover

import (
	"testing"

	"github.com/runqy/runqy-worker/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m, 4) }
