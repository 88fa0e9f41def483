package supervisor

import (
	"log/slog"
	"math"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func TestDecodeProgress(t *testing.T) {
	long := strings.Repeat("é", 300)
	for line, want := range map[string]note{
		`{"progress":{"task_id":"x","fraction":0.4,"message":"epoch 4"}}`: {task: "x", fraction: 0.4, text: "epoch 4"},
		`{"progress":{"task_id":"x","fraction":0}}`:                       {task: "x"},
		`{"progress":{"task_id":"x","fraction":7}}`:                       {task: "x", fraction: 1},
		`{"progress":{"task_id":"x","fraction":-7,"message":"m"}}`:        {task: "x", text: "m"},
		`{"progress":{"task_id":"x","fraction":1e999,"message":"m"}}`:     {task: "x", fraction: unknownShare, text: "m"},
		`{"progress":{"task_id":"x","fraction":"0.4","message":"m"}}`:     {task: "x", fraction: unknownShare, text: "m"},
		`{"progress":{"task_id":"x","fraction":null,"message":"m"}}`:      {task: "x", fraction: unknownShare, text: "m"},
		`{"progress":{"task_id":"x","fraction":0.4,"message":["m"]}}`:     {task: "x", fraction: 0.4},
		`{"progress":{"task_id":"x","fraction":1,"message":"\u001b[31m\ta\r\nb\u0000\u009f"}}`: {
			task: "x", fraction: 1, text: "[31mab"},
		`{"progress":{"task_id":"x","fraction":1,"message":"` + long + `"}}`: {task: "x", fraction: 1, text: long[:2*progressMessageMax]},
	} {
		if got := decode([]byte(line)); got.kind != kindProgress || !reflect.DeepEqual(got.note, want) {
			t.Errorf("%s\n got %+v\nwant %+v", line, got, want)
		}
	}
	for _, line := range []string{
		`{"progress":null}`, `{"progress":0.4}`, `{"progress":{}}`, `{"progress":{"task_id":"x"}}`, `{"progress":{"fraction":0.4}}`,
		`{"progress":{"task_id":5,"fraction":0.4}}`, `{"progress":{"task_id":"x","fraction":"0.4"}}`,
		`{"progress":{"task_id":"x","fraction":NaN}}`, `{ "progress" : {"task_id":"x","result":Infinity}}`,
		`{"log":{"task_id":"x","message":`, `{"log":{"task_id":"x","result":1}}`, `{"log":{"message":""}}`, `{"log":"text"}`,
	} {
		if got := decode([]byte(line)); got.kind != kindStray {
			t.Errorf("%s: %+v", line, got)
		}
	}
}

// What is kept of a line of a megabyte is little: a process may write many.
func TestNotesKeepNothingOfALongLine(t *testing.T) {
	long := strings.Repeat("m", 1<<20)
	lines := [][]byte{
		[]byte(`{"progress":{"task_id":"x","message":"` + long + `"}}`),
		[]byte(`{"log":{"message":"` + long + `","logger":"` + long + `","fields":{"` + long + `":"` + long + `"}}}`),
		[]byte(`{"status":"error","error":"` + long + `"}`),
		[]byte(`{"status":"ready","python":{"implementation":"` + long + `","version":"` + long + `"}}`),
	}
	used := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := used()
	var kept []message
	for range 8 {
		for _, line := range lines {
			m := decode(line)
			if m.kind == kindStray || len(m.err)+len(m.note.text)+len(m.python.Implementation)+len(m.python.Version) > logLineMax {
				t.Fatalf("kind %d, %d and %d bytes", m.kind, len(m.err), len(m.note.text))
			}
			kept = append(kept, m)
		}
	}
	if after := used(); after > before+4<<20 {
		t.Errorf("%d messages keep %d MiB", len(kept), (after-before)>>20)
	}
	runtime.KeepAlive(kept)
}

func TestDecodeLog(t *testing.T) {
	for line, want := range map[string]note{
		`{"log":{"message":"m"}}`: {text: "m"},
		`{"log":{"task_id":"x","level":"WARNING","message":"m\nn","logger":"my.app","fields":{"b":"c","a":1,"d":true,"e":[1],"f":null,"":2,"g":1.5,"h":1e999}}}`: {
			task: "x", level: slog.LevelWarn, text: "m\nn", logger: "my.app",
			fields: []slog.Attr{slog.Int("a", 1), slog.String("b", "c"), slog.Bool("d", true), slog.Float64("g", 1.5), slog.String("h", "1e999")},
		},
		`{"log":{"task_id":5,"level":3,"message":"m","logger":{},"fields":[1]}}`: {text: "m"},
		`{"log":{"level":"critical","message":"m"}}`:                             {text: "m", level: slog.LevelError},
		`{"log":{"level":"debug","message":"m"}}`:                                {text: "m", level: slog.LevelDebug},
		`{"log":{"level":"shout","message":"m"}}`:                                {text: "m"},
	} {
		got := decode([]byte(line))
		if got.kind != kindLog || len(got.note.fields) != len(want.fields) {
			t.Errorf("%s\n got %+v\nwant %+v", line, got, want)
			continue
		}
		for i, f := range got.note.fields {
			if !f.Equal(want.fields[i]) {
				t.Errorf("%s: field %v, want %v", line, f, want.fields[i])
			}
		}
		got.note.fields, want.fields = nil, nil
		if !reflect.DeepEqual(got.note, want) {
			t.Errorf("%s\n got %+v\nwant %+v", line, got.note, want)
		}
	}
}

// heard is what a request's Progress was told.
type heard struct {
	mu        sync.Mutex
	fractions []float64
	messages  []string
}

func (h *heard) progress(fraction float64, message string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fractions = append(h.fractions, fraction)
	h.messages = append(h.messages, message)
}

func TestProgressAndLogLinesOfTasks(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("reports.py"))
	var h heard
	q := task("a", []string{
		`{"progress":{"task_id":TASK,"fraction":0.25,"message":"epoch 1"}}`,
		`{"progress":{"task_id":"b","fraction":0.5,"message":"of another"}}`,
		`{"progress":{"task_id":TASK,"fraction":NaN,"message":"broken"}}`,
		`{"progress":{"task_id":TASK,"message":"epoch 2"}}`,
		`{"log":{"task_id":TASK,"level":"error","message":"no weights","logger":"my.app","fields":{"task_id":"forged","msg":"forged","n":7}}}`,
		`{"log":{"task_id":"gone","message":"afterwards"}}`,
		`{"log":{"task_id":TASK,"message":NaN}}`,
	})
	q.Queue, q.Type, q.Progress = "gpu", "train", h.progress
	if got := r.do(q); got.err != nil || string(got.Result) != `"done"` {
		t.Fatalf("%+v", got)
	}
	if want := []float64{0.25, unknownShare}; !reflect.DeepEqual(h.fractions, want) {
		t.Errorf("fractions %v, want %v", h.fractions, want)
	}
	if want := []string{"epoch 1", "epoch 2"}; !reflect.DeepEqual(h.messages, want) {
		t.Errorf("messages %q, want %q", h.messages, want)
	}
	if got := r.do(task("nobody listens", []string{`{"progress":{"task_id":TASK,"fraction":1}}`})); got.err != nil {
		t.Errorf("%+v", got)
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
	var h heard
	q := task("a", []string{`{"progress":{"task_id":TASK,"fraction":0.25}}`, `{"log":{"message":"mine"}}`})
	q.Progress = h.progress
	if got := r.do(q); got.err != nil || len(h.fractions) != 0 {
		t.Errorf("%+v, heard %v", got, h.fractions)
	}
	eventually(t, "the line is logged as it is", func() bool {
		return strings.Contains(r.log.String(), `msg="{\"log\":{\"message\":\"mine\"}}" origin=stdout`)
	})
}

func TestReportsFloodBlocksNobody(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("reports.py"))
	var h heard
	q := task("a", 10_000)
	q.Progress = h.progress
	if got := r.do(q); got.err != nil || string(got.Result) != `"done"` {
		t.Fatalf("%+v", got)
	}
	if n := len(h.fractions); n != 10_000 || math.Abs(h.fractions[n-1]-1) > 1e-9 {
		t.Errorf("heard of %d reports", n)
	}
}

// A log line beyond max_message is lost, and nothing else.
func TestTooLongLogLineFailsNoTask(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("reports.py"))
	if got := r.do(task("a", []string{`{"log":{"task_id":TASK,"message":"PAD"}}`})); got.err != nil || got.Error != "" {
		t.Errorf("%+v", got)
	}
	eventually(t, "it is said", func() bool { return strings.Contains(r.log.String(), "max_message") })
}
