package queue

import (
	"os"
	"testing"

	"go.yaml.in/yaml/v3"
)

// KEDA counts the list that this package takes tasks from, of a queue that the shipped worker serves.
func TestKEDAWatchesThePendingList(t *testing.T) {
	var scaled struct {
		Spec struct {
			Triggers []struct {
				Metadata map[string]string
			}
		}
	}
	var worker struct {
		Worker struct{ Queues map[string]int }
	}
	for file, into := range map[string]any{
		"../deploy/kubernetes/components/keda/scaledobject.yaml": &scaled,
		"../deploy/kubernetes/base/worker.yaml":                  &worker,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, into); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	watched := make(map[string]bool)
	for _, trigger := range scaled.Spec.Triggers {
		watched[trigger.Metadata["listName"]] = true
	}
	for name := range worker.Worker.Queues {
		if !watched[pendingKey(name)] {
			t.Errorf("KEDA watches %v, and not %s", watched, pendingKey(name))
		}
	}
	if len(worker.Worker.Queues) == 0 || len(watched) != len(worker.Worker.Queues) {
		t.Errorf("KEDA watches %v, the worker serves %v", watched, worker.Worker.Queues)
	}
}
