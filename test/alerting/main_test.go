// Package alerting tests what a real Prometheus, Alertmanager and Grafana's queries make of real workers.
package alerting

import (
	"testing"

	"github.com/runqy/runqy-worker/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m, 6) }
