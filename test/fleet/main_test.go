// Package fleet tests several workers and the checker that recovers what the dead among them held.
package fleet

import (
	"testing"

	"github.com/runqy/runqy-worker/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m, 6) }
