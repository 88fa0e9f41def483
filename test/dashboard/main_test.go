// Package dashboard tests the page of a worker in a real Chromium.
package dashboard

import (
	"testing"

	"github.com/runqy/runqy-worker/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m, 4) }
