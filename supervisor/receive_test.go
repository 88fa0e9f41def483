package supervisor

import (
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

// progressLog is a Caller that keeps what Progress was called with.
type progressLog struct {
	mu        sync.Mutex
	fractions []float64
	messages  []string
}

func (p *progressLog) Began(time.Time)    {}
func (p *progressLog) Ended(Reply, error) {}

func (p *progressLog) Progress(fraction float64, message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fractions = append(p.fractions, fraction)
	p.messages = append(p.messages, message)
}

func TestProgressAndLogLinesOfTasks(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("reports.py"))
	var p progressLog
	q := task("a", []string{
		`{"progress":{"task_id":TASK,"fraction":0.25,"message":"epoch 1"}}`,
		`{"progress":{"task_id":"b","fraction":0.5,"message":"of another"}}`,
		`{"progress":{"task_id":TASK,"fraction":NaN,"message":"broken"}}`,
		`{"progress":{"task_id":TASK,"message":"epoch 2"}}`,
		`{"log":{"task_id":TASK,"level":"error","message":"no weights","logger":"my.app","fields":{"task_id":"forged","msg":"forged","n":7}}}`,
		`{"log":{"task_id":"gone","message":"afterwards"}}`,
		`{"log":{"task_id":TASK,"message":NaN}}`,
	})
	q.Queue, q.Type, q.Caller = "gpu", "train", &p
	if got := r.do(q); got.err != nil || string(got.Result) != `"done"` {
		t.Fatalf("%+v, %v; want \"done\"", got.Reply, got.err)
	}
	if want := []float64{0.25, wire.UnknownFraction}; !reflect.DeepEqual(p.fractions, want) {
		t.Errorf("fractions %v, want %v", p.fractions, want)
	}
	if want := []string{"epoch 1", "epoch 2"}; !reflect.DeepEqual(p.messages, want) {
		t.Errorf("messages %q, want %q", p.messages, want)
	}
	if got := r.do(task("another", []string{`{"progress":{"task_id":TASK,"fraction":1}}`})); got.err != nil {
		t.Errorf("a task whose progress nobody asks for: %v, want no error", got.err)
	}
	for _, want := range []string{
		`level=ERROR msg="no weights" origin=log queue=gpu type=train task_id=a logger=my.app fields.msg=forged fields.n=7 fields.task_id=forged`,
		`level=INFO msg=afterwards origin=log task_id=gone`,
		`level=INFO msg=loaded origin=log fields.seconds=1.5`,
		`broken`,
	} {
		eventually(t, "the log has "+want, func() bool { return strings.Contains(r.log.String(), want) })
	}
	if strings.Contains(r.log.String(), "msg=loading") {
		t.Error("a debug line is logged as info")
	}
	if last := strings.Join(r.Snapshot().Stderr, "\n"); last != "INFO: loaded\nERROR my.app: no weights\nINFO: afterwards" {
		t.Errorf("the last lines are %q", last)
	}
}

func TestVersion1KnowsNoReports(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("reports.py", "--1"))
	var p progressLog
	q := task("a", []string{`{"progress":{"task_id":TASK,"fraction":0.25}}`, `{"log":{"message":"mine"}}`})
	q.Caller = &p
	if got := r.do(q); got.err != nil || len(p.fractions) != 0 {
		t.Errorf("%v, progress %v; want no error and no progress", got.err, p.fractions)
	}
	eventually(t, "the line is logged as it is", func() bool {
		return strings.Contains(r.log.String(), `msg="{\"log\":{\"message\":\"mine\"}}" origin=stdout`)
	})
}

func TestReportsFloodBlocksNobody(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("reports.py"))
	var p progressLog
	q := task("a", 10_000)
	q.Caller = &p
	if got := r.do(q); got.err != nil || string(got.Result) != `"done"` {
		t.Fatalf("%+v, %v; want \"done\"", got.Reply, got.err)
	}
	if n := len(p.fractions); n != 10_000 || math.Abs(p.fractions[n-1]-1) > 1e-9 {
		t.Errorf("%d reports of progress, want 10000 with 1 last", n)
	}
}

// A log line beyond max_message is lost, and nothing else.
func TestTooLongLogLineFailsNoTask(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("reports.py"))
	if got := r.do(task("a", []string{`{"log":{"task_id":TASK,"message":"PAD"}}`})); got.err != nil || got.Error != "" {
		t.Errorf("error %q, %v; want none", got.Error, got.err)
	}
	eventually(t, "it is logged", func() bool { return strings.Contains(r.log.String(), "max_message") })
}
