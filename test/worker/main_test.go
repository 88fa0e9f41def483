// Package worker tests one worker from outside: tasks, crashes, the drain, Redis that goes away, what is shown of it.
package worker

import (
	"testing"

	"github.com/runqy/runqy-worker/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m, 5) }
