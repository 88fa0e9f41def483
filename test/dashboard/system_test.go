package dashboard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// The fleet's page has the state of the fleet: red with tasks that nobody takes, green when a worker does, and it says who
// died.
func TestDashboardOfTheFleet(t *testing.T) {
	t.Parallel()
	const typo = "inference_defualt<img src=x onerror=alert(1)>"
	server := redistest.Start(t)
	f := harness.NewFleetOn(t, server)
	f.Enqueue("echo", nil, asynq.Queue(typo))
	f.Enqueue("echo", nil, asynq.Queue(harness.QueueName))
	checker := f.StartChecker("checker", nil)
	f.AwaitLeader("checker")

	b := openBrowser(t, checker)
	b.open()
	b.shows("#state", "No worker")
	b.shows("#health .reasons", "2 tasks wait in 2 queues.")
	b.shows("#queues", "1 task waits and no worker serves it")
	b.holds(`document.title === "✕ No worker – fleet checker" && document.querySelector("#icon").href.includes("icon-bad.svg")`)
	if text := b.text("body"); strings.Contains(strings.ToLower(text), "healthy") {
		t.Errorf("without any worker the page says healthy: %s", text)
	}
	for _, size := range []struct{ width, height int64 }{{1280, 900}, {360, 740}} {
		for _, scheme := range []string{"light", "dark"} {
			b.scheme(scheme)
			b.size(size.width, size.height)
			if wide := ask[int64](b, `document.documentElement.scrollWidth`); wide > size.width {
				t.Errorf("%s: the page is %d pixels wide, want %d at most", scheme, wide, size.width)
			}
		}
	}
	b.size(1280, 900)

	worker := f.StartWorker("worker-1", harness.Settings{"python.command": []string{"python3", harness.TaskFile(t, "sync.py")}, "fleet.enabled": false})
	f.AwaitRunning(worker.ID)
	b.shows("#state", "1 queue is not served")
	b.shows("#queues tr.tone-good", harness.QueueName)
	if _, err := f.Inspector.DeleteAllPendingTasks(typo); err != nil {
		t.Fatalf("delete the tasks of the queue with the typo: %v", err)
	}
	b.shows("#state", "Healthy")
	b.holds(`document.querySelector("#health").dataset.tone === "good" && document.title === "✓ Healthy – fleet checker"`)
	b.holds(`document.querySelector('#queues tr:has([title^="inference_defualt"])').className === "tone-quiet"`) // idle, and no tick

	// The page of a worker has the worst of the system at the size of its own state.
	f.Enqueue("echo", nil, asynq.Queue(typo))
	own := startBrowser(t, worker)
	own.open()
	own.shows("#health-title", worker.ID)
	own.shows("#state", "Healthy")
	own.shows("#system-state", "1 queue is not served")
	own.shows("#queues", "not this worker's")
	own.holds(`getComputedStyle(document.querySelector("#state")).fontSize === getComputedStyle(document.querySelector("#system-state")).fontSize`)
	own.holds(`document.title.startsWith("✓ Healthy – worker-1") && document.title.endsWith("✕ 1 queue is not served")`)

	harness.KillWorkers(t, worker)
	b.shows("#fleet .deaths", worker.ID)
	b.shows("#fleet .deaths", "process_gone")
	b.shows("#health .notices", "1 worker died within the last hour, "+worker.ID)
	b.shows("#state", "No worker")
	for _, p := range own.complaints() {
		if !strings.Contains(p, "net::ERR_") {
			t.Errorf("the page of the worker: %s", p)
		}
	}
}

// size sets the size of the window.
func (b *browser) size(width, height int64) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height))
	b.holds(fmt.Sprintf("innerWidth === %d", width))
}
