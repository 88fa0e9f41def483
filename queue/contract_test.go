package queue

import (
	"bytes"
	"context"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"
)

// recorder keeps the keys of every script that asynq sends.
type recorder struct {
	redis.UniversalClient
	mu    sync.Mutex
	calls [][]string
}

func (r *recorder) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	r.mu.Lock()
	r.calls = append(r.calls, keys)
	r.mu.Unlock()
	return r.UniversalClient.EvalSha(ctx, sha, keys, args...)
}

// The broker recognises asynq's scripts by their keys. This holds those shapes against the pinned asynq: each that is
// looked at is seen for what it is; of the ways a task can end, only retry and archive are.
func TestAsynqScriptShapes(t *testing.T) {
	m := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: m.Addr()})
	defer func() { _ = client.Close() }()
	rec := &recorder{UniversalClient: client}
	block := make(chan struct{})
	server := asynq.NewServerFromRedisClient(rec, asynq.Config{
		Concurrency: 4, Queues: map[string]int{"q": 1}, LogLevel: asynq.FatalLevel,
		TaskCheckInterval: time.Millisecond, ShutdownTimeout: time.Millisecond,
		DelayedTaskCheckInterval: time.Millisecond, JanitorInterval: time.Millisecond,
	})
	handler := asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		switch task.Type() {
		case "retry":
			return context.Canceled
		case "archive":
			return asynq.SkipRetry
		case "requeue":
			<-block
		}
		return nil
	})
	producer := asynq.NewClientFromRedisClient(client)
	for _, c := range []struct {
		kind string
		opts []asynq.Option
	}{
		{"done", nil}, {"done", []asynq.Option{asynq.Unique(time.Hour)}},
		{"complete", []asynq.Option{asynq.Retention(time.Hour)}},
		{"complete", []asynq.Option{asynq.Retention(time.Hour), asynq.Unique(time.Hour)}},
		{"retry", nil}, {"archive", nil}, {"requeue", nil},
	} {
		if _, err := producer.Enqueue(asynq.NewTask(c.kind, []byte{byte(len(c.opts))}), append(c.opts, asynq.Queue("q"))...); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.Start(handler); err != nil {
		t.Fatal(err)
	}
	inspector := asynq.NewInspectorFromRedisClient(client)
	deadline := time.Now().Add(30 * time.Second)
	for {
		info, err := inspector.GetQueueInfo("q")
		if err == nil && info.Pending == 0 && info.Active == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("tasks do not end: %+v, %v", info, err)
		}
		time.Sleep(time.Millisecond)
	}
	server.Shutdown()
	close(block)

	seen := make(map[scriptKind]int)
	for _, keys := range rec.calls {
		seen[kindOf(keys)]++
		q, _ := queueOfKey(keys[0])
		want := []string{pendingKey(q), pausedKey(q), activeKey(q), leaseKey(q)}
		if kindOf(keys) == scriptDequeue && !reflect.DeepEqual(keys, want) {
			t.Errorf("dequeue keys %v, want %v", keys, want)
		}
	}
	for _, kind := range []scriptKind{scriptDequeue, scriptLapsed, scriptRecover, scriptForward, scriptExpire, scriptServer} {
		if seen[kind] == 0 {
			t.Errorf("no script of kind %d was seen: %v", kind, rec.calls)
		}
	}
	if seen[scriptRecover] != 2 {
		t.Errorf("%d scripts look like retry and archive, want 2", seen[scriptRecover])
	}
}

// The message decoder agrees with what asynq stores.
func TestDecodeMessageAgreesWithAsynq(t *testing.T) {
	m := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: m.Addr()})
	defer func() { _ = client.Close() }()
	deadline := time.Now().Add(time.Hour).Truncate(time.Second)
	task := asynq.NewTaskWithHeaders("type-é", []byte{0, 1, 2, 255}, map[string]string{"trace": "abc", "empty": ""})
	_, err := asynq.NewClientFromRedisClient(client).Enqueue(task, asynq.Queue("q"), asynq.TaskID("id1"), asynq.MaxRetry(3),
		asynq.Timeout(90*time.Second), asynq.Deadline(deadline), asynq.Retention(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeMessage([]byte(m.HGet(taskKey("q", "id1"), "msg")))
	if err != nil {
		t.Fatal(err)
	}
	want := &message{
		Type: "type-é", Payload: []byte{0, 1, 2, 255}, Headers: map[string]string{"trace": "abc", "empty": ""}, ID: "id1", Queue: "q",
		MaxRetry: 3, Timeout: 90 * time.Second, Deadline: deadline, Retention: time.Minute,
		TimeoutSeconds: 90, DeadlineUnix: deadline.Unix(),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// What asynq cannot decode must not pass here: asynq would drop it and leave it in active.
func TestDecodeMessageRefusesWhatAsynqRefuses(t *testing.T) {
	for _, field := range []protowire.Number{
		fieldType, fieldID, fieldQueue, fieldErrorMsg, fieldUniqueKey, fieldGroupKey,
	} {
		b := protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), []byte{0xff})
		if _, err := decodeMessage(b); err == nil {
			t.Errorf("field %d may be something else than UTF-8", field)
		}
	}
}

func FuzzDecodeMessage(f *testing.F) {
	f.Add([]byte("\n\x04echo\x12\x02{}\x1a\x02id\"\x01q(\x19@\x3c"))
	f.Add([]byte{0xff, 0xff, 0xff})
	f.Add([]byte("z\x06\n\x01k\x12\x01v"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(b)
		if (m == nil) == (err == nil) {
			t.Fatalf("message %v, error %v", m, err)
		}
		if err == nil && m.Retention < 0 {
			t.Fatalf("a negative retention in %+v", m)
		}
	})
}

func TestErrorTextIsBoundedAndUTF8(t *testing.T) {
	long := "ValueError: first" + strings.Repeat("é", maxErrorText) + "last line"
	got := errorText(long)
	if len(got) > maxErrorText || !strings.HasPrefix(got, "ValueError: first") || !strings.HasSuffix(got, "last line") {
		t.Errorf("%d bytes, %.40q … %q", len(got), got, got[len(got)-20:])
	}
	if strings.ToValidUTF8(got, "") != got {
		t.Error("not UTF-8")
	}
}

func TestViewPayload(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"a":1}`, `{"a":1}`},
		{"", ""},
		{"\xff\x00", "base64:/wA="},
		{strings.Repeat("a", 5000), strings.Repeat("a", 4096) + "… (5000 bytes)"},
		{strings.Repeat("é", 3000), strings.Repeat("é", 2048) + "… (6000 bytes)"},
	} {
		if got := PayloadText([]byte(c.in)); got != c.want {
			t.Errorf("%.20q shows as %.40q", c.in, got)
		}
	}
}

// asynq's server list shows what has begun: a task that waits for its turn has neither a begin nor a deadline.
func TestWhatWaitsIsNotShownAsRunning(t *testing.T) {
	began := time.Unix(1_800_000_000, 0)
	b := &broker{active: func() []ActiveTask {
		return []ActiveTask{{ID: "runs", Since: began, Started: began, deadline: began.Add(time.Minute)}, {ID: "waits", Since: began}}
	}}
	state := b.serverState([]any{5, []byte{}})
	if len(state) != 4 || state[2] != "runs" {
		t.Fatalf("the state is %v, want one task in it, runs", state)
	}
	if want := []byte{9<<3 | byte(protowire.VarintType), 1}; !bytes.HasPrefix(state[1].([]byte), want) {
		t.Errorf("the server is %v, want it with one task, %v", state[1], want)
	}
}
