package worker

import (
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// Every place that shows the health reads one value: whatever goes wrong, answers that were made from the same report
// agree, and no answer is older than one that was there before its question.
func TestAllPlacesReadOneReport(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	db := startDatabase(t)
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"health.database_url": "postgres://probe@" + db.address + "/app?sslmode=disable", "health.event_loop_block_threshold": "1s",
	})
	pid := q.PythonPID(w.ID)
	port, others := surfacesOf(w, server.Client)
	all := slices.Concat(port, others)
	watching := watch(t, all)
	says := func(healthy string) func(observation) bool {
		return func(s observation) bool {
			return s.healthy == healthy || s.healthy == "" && (s.ready == healthy || s.live == "true")
		}
	}
	watching.await("healthy", all, says("true"))

	harness.Kill(t, pid, syscall.SIGKILL)
	watching.await("the process was killed", all, says("false"))
	if out := w.Command("restart", w.ID); out.Code != 0 {
		t.Fatalf("restart: %+v", out)
	}
	watching.await("healthy after the restart", all, says("true"))

	pid = q.PythonPID(w.ID)
	harness.Kill(t, pid, syscall.SIGSTOP)
	watching.await("the process is stopped", all, says("false"))
	harness.Kill(t, pid, syscall.SIGCONT)
	watching.await("healthy when it goes on", all, says("true"))

	server.Kill()
	watching.await("Redis is gone", port, says("false"))
	server.Restart()
	watching.await("healthy when Redis is back", all, says("true"))

	db.stop()
	watching.await("the database is gone", all, says("false"))
	db.start()
	watching.await("healthy when the database is back", all, says("true"))

	w.Freeze()
	harness.Eventually(t, "a frozen worker does not answer", func() error {
		if out := w.Command("healthcheck"); out.Code != 1 {
			return harness.NotYet(w, "%+v", out)
		}
		return nil
	})
	w.Thaw()
	watching.await("healthy after a pause", all, says("true"))

	task := q.Enqueue("sleep", map[string]any{"seconds": 4})
	q.AwaitHeartbeat(w.ID, "active_task="+task)
	w.Signal(syscall.SIGTERM)
	watching.await("draining", port, func(s observation) bool {
		quiet := s.surface == "/" && s.healthy == ""
		return quiet || s.ready == "false" || s.status == "draining" || s.ready == "" && s.status == "" && s.surface != "/"
	})
	if code := w.WaitExit(); code != 0 {
		t.Errorf("the worker ended with %d", code)
	}
	watching.stop()
	checkObservations(t, watching)
}

// report names what answers that must agree have in common.
type report struct {
	number int64
	stale  bool
}

// checkObservations compares all answers of each report.
func checkObservations(t *testing.T, w *watcher) {
	t.Helper()
	for _, err := range w.faults {
		t.Error(err)
	}
	first := map[report]observation{}
	disagree := func(a, b observation) { t.Errorf("of report %d, stale %v:\n%+v\n%+v", a.number, a.stale, a, b) }
	numbers := map[int64]bool{}
	for _, s := range w.all() {
		numbers[s.number] = true
		key := report{s.number, s.stale}
		known, found := first[key]
		if !found {
			known = observation{surface: s.surface, number: s.number, stale: s.stale}
		}
		for _, pair := range [][2]*string{{&known.healthy, &s.healthy}, {&known.ready, &s.ready}, {&known.status, &s.status}} {
			switch {
			case *pair[0] == "":
				*pair[0] = *pair[1]
			case *pair[1] != "" && *pair[0] != *pair[1]:
				disagree(known, s)
			}
		}
		switch {
		case s.reported && !known.reported:
			known.reason, known.reported = s.reason, true
		case s.reported && known.reason != s.reason:
			disagree(known, s)
		}
		if s.live == "false" {
			known.live = "false"
		}
		first[key] = known
	}
	for key, s := range first {
		ready := s.healthy == "true" && s.status == "running"
		if s.ready != "" && s.status != "" && s.healthy != "" && (s.ready == "true") != ready || s.live == "false" && s.healthy != "false" ||
			s.healthy == "false" && s.reported && s.reason == "" {
			t.Errorf("report %+v contradicts itself: %+v", key, s)
		}
	}
	checkOrder(t, w.all())
	t.Logf("%d answers of %d reports agree", len(w.all()), len(numbers))
	// Eleven changes, each of a few steps: a worker that numbers every look would have hundreds.
	if len(numbers) > 60 {
		t.Errorf("there were %d reports, want few", len(numbers))
	}
}

// checkOrder checks that no answer is of an older report than one that came before it was asked for.
func checkOrder(t *testing.T, all []observation) {
	t.Helper()
	ended := slices.Clone(all)
	slices.SortFunc(ended, func(a, b observation) int { return a.ended.Compare(b.ended) })
	slices.SortFunc(all, func(a, b observation) int { return a.began.Compare(b.began) })
	var newest observation
	for _, s := range all {
		for len(ended) > 0 && ended[0].ended.Before(s.began) {
			if ended[0].number > newest.number {
				newest = ended[0]
			}
			ended = ended[1:]
		}
		if !s.began.IsZero() && s.number < newest.number {
			t.Errorf("%s answered from report %d after %s had from %d", s.surface, s.number, newest.surface, newest.number)
		}
	}
}

// database answers SELECT 1 as PostgreSQL does.
type database struct {
	t       *testing.T
	address string

	mu       sync.Mutex // guards the rest
	listener net.Listener
	conns    []net.Conn
	serving  sync.WaitGroup
}

func startDatabase(t *testing.T) *database {
	t.Helper()
	d := &database{t: t, address: "127.0.0.1:0"}
	d.start()
	t.Cleanup(d.stop)
	return d
}

// start listens, the second time at the same address.
func (d *database) start() {
	d.t.Helper()
	l, err := net.Listen("tcp", d.address)
	if err != nil {
		d.t.Fatalf("listen as a database: %v", err)
	}
	d.listener, d.address = l, l.Addr().String()
	d.serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			d.mu.Lock()
			d.conns = append(d.conns, conn)
			d.mu.Unlock()
			d.serving.Go(func() { serveDatabase(conn) })
		}
	})
}

// stop refuses connections and ends those that there are.
func (d *database) stop() {
	_ = d.listener.Close()
	d.mu.Lock()
	for _, conn := range d.conns {
		_ = conn.Close()
	}
	d.mu.Unlock()
	d.serving.Wait()
}

func serveDatabase(conn net.Conn) {
	defer conn.Close()
	b := pgproto3.NewBackend(conn, conn)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for b.Flush() == nil {
		if _, err := b.Receive(); err != nil {
			return
		}
		b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
}
