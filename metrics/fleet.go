package metrics

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/runqy/runqy-worker/internal/status"
)

// FleetSources is where the fleet's metrics are read.
type FleetSources struct {
	// States counts the registered workers by state, with every state there is. Nil while this process does not check
	// them: the series are then absent, because old figures would be taken for current ones. Required.
	States func() map[string]int
	// Stranded tells by queue how many tasks wait for nobody; required. Nil while this process does not check the
	// workers, or does not know it: the series are then absent. It must return soon after ctx ends, which is after two
	// seconds.
	Stranded func(ctx context.Context) (map[string]int64, error)
	// DeadReasons and RecoveredReasons are the label values that may come: their series exist from the start.
	DeadReasons, RecoveredReasons []string
	// QueueNames are queues that are known from the start; see QueuesSeen.
	QueueNames []string
}

// FleetSet counts what the health checker of the fleet sees and does. All methods may be called from any goroutine and
// never block.
type FleetSet struct {
	dead      *prometheus.CounterVec
	recovered *prometheus.CounterVec
	reasons   []string // of recovered
}

// NewFleet registers the metrics of the health checker with reg. On error reg is left as it was.
func NewFleet(reg prometheus.Registerer, src FleetSources) (*FleetSet, error) {
	if src.States == nil || src.Stranded == nil {
		return nil, errors.New("FleetSources.States or Stranded is missing; give the functions that count workers and tasks")
	}
	s := &FleetSet{
		dead: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "runqy_fleet_dead_total",
			Help: "Processes of workers that have died, each counted by the one process that has recorded its death, by how that showed.",
		}, []string{"reason"}),
		recovered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "runqy_tasks_recovered_total",
			Help: "Tasks that this process took back from workers that are gone: returned to the queue or, lost too often, archived.",
		}, []string{"queue", "reason"}),
		reasons: src.RecoveredReasons,
	}
	for _, reason := range src.DeadReasons {
		s.dead.WithLabelValues(reason)
	}
	s.QueuesSeen(src.QueueNames)
	if err := registerAll(reg, []prometheus.Collector{s.dead, s.recovered, newFleetCollector(src)}); err != nil {
		return nil, err
	}
	return s, nil
}

// QueuesSeen creates the series of these queues, so that rate and increase see their first event.
func (s *FleetSet) QueuesSeen(queues []string) {
	for _, q := range queues {
		for _, reason := range s.reasons {
			s.recovered.WithLabelValues(label(q), reason)
		}
	}
}

// Died counts one death.
func (s *FleetSet) Died(reason string) { s.dead.WithLabelValues(reason).Inc() }

// Recovered counts n tasks of a queue that were taken back.
func (s *FleetSet) Recovered(queue, reason string, n int) {
	s.recovered.WithLabelValues(label(queue), reason).Add(float64(max(n, 0)))
}

type fleetCollector struct {
	src                       FleetSources
	checker, worker, unserved *prometheus.Desc
}

func newFleetCollector(src FleetSources) *fleetCollector {
	return &fleetCollector{
		src: src,
		checker: desc("runqy_fleet_checker",
			"1 while this process is the health checker of the fleet, else 0; the sum over all processes should be 1."),
		worker: desc("runqy_fleet_workers",
			"Registered workers by what the health checker found; absent from processes that are not the checker.", "state"),
		unserved: desc("runqy_queue_unserved_tasks",
			"Tasks, pending or due, of a queue that no healthy worker serves, and tasks that wait to be aggregated; 0 when there are none; "+
				"absent from processes that are not the checker.", "queue"),
	}
}

// Describe implements prometheus.Collector.
func (c *fleetCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.checker
	ch <- c.worker
	ch <- c.unserved
}

// Collect implements prometheus.Collector.
func (c *fleetCollector) Collect(ch chan<- prometheus.Metric) {
	states := c.src.States()
	gauge(ch, c.checker, oneIf(states != nil))
	for state, n := range states {
		gauge(ch, c.worker, float64(n), label(state))
	}
	// Collect is given no context, so this one begins here.
	ctx, cancel := context.WithTimeout(context.Background(), queueReadTimeout)
	defer cancel()
	stranded, err := c.src.Stranded(ctx)
	if err != nil {
		return // what is not known has no sample
	}
	for queue, n := range stranded {
		gauge(ch, c.unserved, float64(n), label(queue))
	}
}

// NewQueues registers the series of the queues, the log and the Go runtime alone, for a process that runs no tasks and so
// has no [Set]. read is as in [Sources.Queues], dropped as [Sources.LogLinesDropped].
func NewQueues(reg prometheus.Registerer, read func(context.Context) (map[string]status.Depth, error), dropped func() int64) error {
	if read == nil {
		return errors.New("no function that reads the queues given")
	}
	return registerAll(reg, append(logCollectors(dropped),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
		newQueueCollector(read),
	))
}
