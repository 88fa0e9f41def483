package health

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runqy/runqy-worker/internal/broadcast"
	"github.com/runqy/runqy-worker/internal/status"
)

// consumer is a consuming path whose state the test decides.
type consumer struct {
	mu      sync.Mutex
	state   Consumption
	changed broadcast.Notifier
}

func (c *consumer) set(state Consumption) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = state
}

func (c *consumer) get() Consumption {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

func TestConsumptionDecidesForRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &consumer{state: Consumption{Unknown: true}}
		d, err := NewDependencies(DependenciesOptions{Consumption: c.get, ConsumptionChanged: c.changed.Next, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		defer run(t, d)()
		synctest.Wait()
		want := func(when string, broker, worker status.Check, open bool, reasons string) {
			t.Helper()
			h := d.Health(process)
			if h.Broker != broker || h.Worker != worker || strings.Join(texts(h.Reasons), " ") != reasons || h.Healthy != (reasons == "") {
				t.Errorf("%s: %+v, want broker %s, worker %s and the reasons %q", when, h, broker, worker, reasons)
			}
			if got := h.Ready() || h.Probed; got != open {
				t.Errorf("%s: tasks are taken: %v, want %v", when, got, open)
			}
		}
		want("at first", status.Unhealthy, status.Healthy, false, "Redis has not been asked yet.")
		c.set(Consumption{})
		c.changed.Notify()
		synctest.Wait() // without any time
		want("it works", status.Healthy, status.Healthy, true, "")
		if h := d.Health(OfProcess(status.Degraded, false, status.Reason{})); h.Ready() || h.Probed {
			t.Error("tasks are taken without a process")
		}
		for _, step := range []struct {
			when           string
			state          Consumption
			broker, worker status.Check
			open           bool
		}{
			{"it is refused", Consumption{Reasons: []string{"READONLY."}, Broker: true}, status.Unhealthy, status.Healthy, false},
			{"tasks wait", Consumption{Reasons: []string{"Tasks wait."}, Worker: true, Probed: true}, status.Healthy, status.Unhealthy, true},
			{"takes are refused", Consumption{Reasons: []string{"NOPERM."}, Broker: true, Probed: true}, status.Unhealthy, status.Healthy, true},
			{"it hangs", Consumption{Reasons: []string{"It hangs.", "OOM."}, Worker: true, Broker: true}, status.Unhealthy, status.Unhealthy, false},
		} {
			changed := d.Changed()
			c.set(step.state)
			time.Sleep(consumptionInterval)
			synctest.Wait()
			want(step.when, step.broker, step.worker, step.open, strings.Join(step.state.Reasons, " "))
			select {
			case <-changed:
			default:
				t.Errorf("%s: that is not announced", step.when)
			}
		}
	})
}
