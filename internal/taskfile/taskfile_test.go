package taskfile

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/runqy/runqy-worker/client"
	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func embedded(t *testing.T) redis.UniversalClient {
	t.Helper()
	e, err := redisclient.StartEmbedded("")
	if err != nil {
		t.Fatalf("start the embedded Redis: %v", err)
	}
	t.Cleanup(e.Close)
	rdb := e.Target().Open()
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

// newClient returns a client that pings no workers, which needs no closing.
func newClient(t *testing.T, rdb redis.UniversalClient) *client.Client {
	t.Helper()
	c, err := client.NewFromRedis(rdb, client.Options{HeartbeatsOnly: true})
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	return c
}

// pending lists the types on the queue, the next one first.
func pending(t *testing.T, rdb redis.UniversalClient, queue string) (types []string) {
	t.Helper()
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	for page := 1; ; page++ {
		tasks, err := inspector.ListPendingTasks(queue, asynq.PageSize(1000), asynq.Page(page))
		if err != nil {
			t.Fatalf("list the pending tasks: %v", err)
		}
		for _, task := range tasks {
			types = append(types, task.Type)
		}
		if len(tasks) < 1000 {
			return types
		}
	}
}

func TestEnqueueKeepsTheOrder(t *testing.T) {
	rdb := redistest.Start(t).Client
	const n = 1234
	var b strings.Builder
	var want []string
	for i := range n {
		fmt.Fprintf(&b, "{\"type\":\"t%04d\",\"payload\":%d}\n\n", i, i)
		want = append(want, fmt.Sprintf("t%04d", i))
	}
	var progress int64
	var counted int
	summary, err := Enqueue(t.Context(), newClient(t, rdb), strings.NewReader(b.String()), client.Task{Queue: "q"}, Report{Progress: func(n int64, tasks int) {
		progress += n
		counted = tasks
	}})
	if err != nil || summary.Enqueued != n || summary.Bad != 0 || summary.LastLine != 2*n {
		t.Fatalf("summary %+v, error %v", summary, err)
	}
	if progress != int64(b.Len()) || counted != n {
		t.Errorf("progress %d of %d bytes, %d of %d tasks", progress, b.Len(), counted, n)
	}
	if got := pending(t, rdb, "q"); !slices.Equal(got, want) {
		t.Errorf("%d pending tasks, not in the order of the file", len(got))
	}
}

func TestEnqueueNamesBadLines(t *testing.T) {
	rdb := embedded(t)
	file := strings.Join([]string{
		`{"payload":1}`,
		`{"payload":`,
		`{"payload":2,"tipe":"x"}`,
		`{}`,
		`{"payload":3} {"payload":4}`,
		`{"payload":5,"timeout":30}`,
		`{"payload":6,"queue":"result"}`,
		`{"payload":7,"id":"same"}`,
		`{"payload":8,"id":"same"}`,
		`{"payload":null,"in":"1h","queue":"other","max_retry":0,"headers":{"a":"b"}}`,
	}, "\r\n")
	bad := map[int]string{}
	summary, err := Enqueue(t.Context(), newClient(t, rdb), strings.NewReader(file), client.Task{Queue: "q", Type: "x"},
		Report{BadLine: func(n int, err error) { bad[n] = err.Error() }})
	if err != nil || summary.Enqueued != 3 || summary.Bad != 7 || summary.Unknown != 0 {
		t.Fatalf("summary %+v, error %v", summary, err)
	}
	for n, want := range map[int]string{
		2: "not JSON", 3: `"tipe"`, 4: `no "payload"`, 5: "more than one JSON value", 6: `write "30s"`, 7: "reserved", 9: `id "same": a task with this id exists already`,
	} {
		if !strings.Contains(bad[n], want) {
			t.Errorf("line %d: %q, want %q", n, bad[n], want)
		}
	}
	if n := rdb.ZCard(t.Context(), "asynq:{other}:scheduled").Val(); n != 1 {
		t.Errorf("%d scheduled tasks in the other queue", n)
	}
}

func TestEnqueueOverABreakingConnection(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.StartProxy(t, s.Addr)
	rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr, MaxRetries: 10, MinRetryBackoff: time.Millisecond, MaxRetryBackoff: 2 * time.Millisecond})
	defer rdb.Close()
	proxy.CutEveryMatching(701, redistest.CutReply, func(name string) bool { return name == "EVALSHA" })
	const n = 2000
	summary, err := Enqueue(t.Context(), newClient(t, rdb), strings.NewReader(strings.Repeat(`{"payload":1}`+"\n", n)), client.Task{Queue: "q", Type: "x"}, Report{})
	if err != nil || summary.Enqueued != n {
		t.Fatalf("summary %+v, error %v", summary, err)
	}
	if proxy.Cuts() == 0 {
		t.Fatal("no connection was cut")
	}
	if got := s.Client.LLen(t.Context(), "asynq:{q}:pending").Val(); got != n {
		t.Errorf("%d tasks are pending, want %d: each once", got, n)
	}
}

func TestEnqueueTellsWhatItDoesNotKnow(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.StartProxy(t, s.Addr)
	rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr, MaxRetries: -1, DialerRetries: 1})
	defer rdb.Close()
	c := newClient(t, rdb)
	if _, err := c.Enqueue(t.Context(), client.Task{Queue: "q", Type: "x", Payload: json.RawMessage("1")}); err != nil {
		t.Fatalf("enqueue the first: %v", err)
	}
	r, w := io.Pipe()
	first, done := make(chan struct{}), make(chan struct{})
	go func() { // ends when Enqueue has read all of it, or the pipe is closed
		defer close(done)
		fmt.Fprintln(w, `{"payload":1}`)
		<-first
		fmt.Fprintln(w, `{"payload":2}`)
		w.Close()
	}()
	stop := sync.OnceFunc(func() { proxy.Stop(); close(first) })
	summary, err := Enqueue(t.Context(), c, r, client.Task{Queue: "q", Type: "x"}, Report{Progress: func(int64, int) { stop() }})
	r.Close()
	<-done
	if err == nil || !reflect.DeepEqual(summary, Summary{Enqueued: 1, Unknown: 1, LastLine: 2, Queues: []string{"q"}}) {
		t.Errorf("summary %+v, error %v, want one task enqueued and one unknown", summary, err)
	}
}

// The first command that Redis does not answer names the line whose task it was for, and nothing after it is sent.
func TestEnqueueEndsAtALineThatIsNotSent(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.StartProxy(t, s.Addr)
	rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr, MaxRetries: -1, DialerRetries: 1})
	defer rdb.Close()
	proxy.Stop()
	file := "\n" + `{"payload":1}` + "\n" + `{"payload":2}` + "\n"
	summary, err := Enqueue(t.Context(), newClient(t, rdb), strings.NewReader(file), client.Task{Queue: "q", Type: "x"}, Report{})
	if want := "line 2: enqueue in queue q: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want one that begins with %q", err, want)
	}
	if !reflect.DeepEqual(summary, Summary{LastLine: 1}) {
		t.Errorf("summary %+v, want nothing enqueued after line 1", summary)
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`{"payload":{"a":[1]},"type":"x","in":"1s"}`))
	f.Add([]byte(`{"payload":null,"queue":"{q}"}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, data []byte) {
		task, err := parseLine(data, client.Task{Queue: "q", Type: "t"})
		if err == nil && task.Validate() != nil {
			t.Fatalf("%q became the invalid task %+v", data, task)
		}
	})
}
