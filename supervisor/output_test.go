package supervisor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestGarbageDoesNotBreakTheProtocol(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("garbage_lines.py"))
	for _, id := range []string{"a", "b", "c"} {
		if got := r.do(task(id, id)); got.err != nil || got.Error != "" || string(got.Result) != `"`+id+`"` {
			t.Fatalf("%s: %+v", id, got)
		}
	}
	for _, want := range []string{"hello before ready", "plain text", "{broken", "50%", "origin=stdout"} {
		eventually(t, "the log has "+want, func() bool { return strings.Contains(r.log.String(), want) })
	}
}

func TestHugeReply(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("huge_line.py"))
	type p = map[string]any
	for _, tc := range []struct {
		id string
		p  p
		ok bool
	}{
		{"fits", p{"size": 1<<20 - 100}, true},
		{"too long", p{"size": 9 << 20}, false},
		{"too long and nameless", p{"size": 9 << 20, "named": false}, false},
		{"fits again", p{"size": 10}, true},
	} {
		got := r.do(task(tc.id, tc.p))
		if got.err != nil || (got.Error == "") != tc.ok || !tc.ok && !strings.Contains(got.Error, "max_message") {
			t.Errorf("%s: error %q, %v", tc.id, got.Error, got.err)
		}
	}
}

func TestInvalidReplies(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("invalid_reply.py"))
	for name, text := range map[string]string{
		"NaN":           `{"task_id": TASK, "result": NaN, "error": null}`,
		"wrong type":    `{"task_id": TASK, "result": 1, "error": null, "retry": "yes"}`,
		"cut":           `{"task_id": TASK, "result": [1, 2`,
		"late id":       `{"result": {"task_id": "other", "x": Infinity}, "task_id": TASK}`,
		"invalid UTF-8": "{\"task_id\": TASK, \"result\": \"\xff\"}",
	} {
		got := r.do(Request{TaskID: name, Payload: quote(text)})
		if got.err != nil || !strings.Contains(got.Error, "invalid reply") || !got.Retry {
			t.Errorf("%s: %+v", name, got)
		}
	}
	got := r.do(Request{TaskID: "fine", Payload: quote(`{"task_id": TASK, "result": 1, "error": null}`)})
	if got.err != nil || string(got.Result) != "1" {
		t.Errorf("afterwards: %+v", got)
	}
}

// quote makes a JSON string in which bytes that are not UTF-8 become the lone
// surrogates that Python's surrogateescape turns back.
func quote(s string) []byte {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"':
			b.WriteString(`\"`)
		case c >= 0x80:
			b.WriteString(`\udc` + string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15]))
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return []byte(b.String())
}

func TestFailuresAndRetryAdvice(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("echo_v2.py"))
	got := r.do(task("a", map[string]any{"fail": "ValueError: no", "retry": false}))
	if got.Error != "ValueError: no" || got.Retry {
		t.Errorf("permanent: %+v", got)
	}
	got = r.do(task("b", map[string]any{"fail": "later", "retry_delay": 2.5}))
	if got.Error != "later" || !got.Retry || got.RetryDelay != 2500*time.Millisecond {
		t.Errorf("retry: %+v", got)
	}
}

func TestDuplicateAndUnknownReplies(t *testing.T) {
	t.Parallel()
	for _, script := range []string{"duplicate_reply.py", "unknown_id.py"} {
		r := startReady(t, testOptions(script))
		for _, id := range []string{"a", "b"} {
			if got := r.do(task(id, id)); got.err != nil || string(got.Result) != `"`+id+`"` {
				t.Errorf("%s: %+v", script, got)
			}
		}
		eventually(t, "it is logged", func() bool { return strings.Contains(r.log.String(), "not in flight") })
	}
}

func TestStderrFloodBlocksNobody(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("stderr_flood.py"))
	if got := r.do(task("t", 1)); got.err != nil || string(got.Result) != `"flooded"` {
		t.Fatalf("%v", got.err)
	}
	size := 0
	for _, line := range r.Snapshot().Stderr {
		size += len(line)
	}
	if size == 0 || size > tailBytes {
		t.Errorf("the tail holds %d bytes", size)
	}
}

func TestStderrIsLoggedAndKept(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("echo_v2.py"))
	r.do(task("t", map[string]any{"say": "something to remember"}))
	eventually(t, "it is logged", func() bool {
		s := r.log.String()
		return strings.Contains(s, "something to remember") && strings.Contains(s, "origin=stderr")
	})
	if tail := r.Snapshot().Stderr; len(tail) != 1 || tail[0] != "something to remember" {
		t.Errorf("tail: %q", tail)
	}
}

func TestWholeRequestArrives(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("echo_v2.py"))
	q := task("id 1", map[string]any{"whole": true})
	q.Type, q.Queue, q.RetryCount, q.MaxRetry = "image:resize", "low", 2, 25
	q.Deadline = time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	q.Headers = map[string]string{"trace": "<x>"}
	got := r.do(q)
	want := `{"task_id": "id 1", "type": "image:resize", "payload": {"whole": true}, "retry_count": 2, "max_retry": 25, ` +
		`"queue": "low", "deadline": "2026-01-02T02:04:05Z", "headers": {"trace": "<x>"}}`
	if got.err != nil || string(got.Result) != want {
		t.Errorf("got  %s\nwant %s\n%v", got.Result, want, got.err)
	}
}

func TestManyLargePayloads(t *testing.T) {
	t.Parallel()
	o := testOptions("echo_v2.py")
	o.MaxMessage = 64 << 20
	o.BlockThreshold = patience // on a busy machine the pipes are full for long, with nobody at fault
	r := startReady(t, o)
	big := strings.Repeat("payload ", 2<<20) // 16 MiB
	var answers []<-chan answer
	for _, id := range []string{"a", "b", "c"} {
		answers = append(answers, r.send(context.Background(), task(id, big)))
	}
	for _, a := range answers {
		if got := r.receive(a); got.err != nil || len(got.Result) != len(big)+2 {
			t.Errorf("%d bytes, %v", len(got.Result), got.err)
		}
	}
	if got := r.do(task("small", 1)); errors.Is(got.err, ErrNotRun) || string(got.Result) != "1" {
		t.Errorf("afterwards: %+v", got)
	}
}
