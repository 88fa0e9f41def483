package worker

import (
	"slices"
	"testing"

	"github.com/runqy/runqy-worker/supervisor"
)

func TestNamedTypes(t *testing.T) {
	announced := map[string]string{"resize": "sync", supervisor.AnyType: "sync", "fetch": "async"}
	if got, want := namedTypes(announced), []string{"fetch", "resize"}; !slices.Equal(got, want) {
		t.Errorf("types %q, want %q", got, want)
	}
	if got := namedTypes(nil); len(got) != 0 {
		t.Errorf("types %q of a process that has announced none", got)
	}
}
