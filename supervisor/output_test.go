package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTailIsBounded(t *testing.T) {
	var tail outputTail
	for i := range 100 {
		tail.add([]byte(fmt.Sprint("line ", i)))
	}
	if got := tail.last(); len(got) != maxTailLines || got[0] != "line 80" || got[19] != "line 99" {
		t.Errorf("the tail is %q, want the last %d lines", got, maxTailLines)
	}
	for range 10 {
		tail.add([]byte(strings.Repeat("x", 5000)))
	}
	size := 0
	for _, s := range tail.last() {
		size += len(s)
	}
	if size > maxTailBytes || size < maxTailLine {
		t.Errorf("the tail holds %d bytes, want %d to %d", size, maxTailLine, maxTailBytes)
	}
	tail.add([]byte("\xff"))
	if got := tail.last(); got[len(got)-1] != "\uFFFD" {
		t.Errorf("the tail is %q, want a replacement character last", got)
	}
}

func TestLastShown(t *testing.T) {
	for line, want := range map[string]string{
		"plain":                           "plain",
		"windows\r":                       "windows",
		" 10%|# |\r 90%|###|\rCUDA error": "CUDA error",
		" 45%|## |\r      \rFatal Python error: Aborted": "Fatal Python error: Aborted",
		"CUDA error\r        \r\r":                       "CUDA error",
		"\r\r":                                           "",
		" \r ":                                           " ",
		"":                                               "",
	} {
		if got := string(lastShown([]byte(line))); got != want {
			t.Errorf("of %q %q is left, want %q", line, got, want)
		}
	}
}

func TestGarbageDoesNotBreakTheProtocol(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("garbage_lines.py"))
	for _, id := range []string{"a", "b", "c"} {
		if got := r.do(task(id, id)); got.err != nil || got.Error != "" || string(got.Result) != `"`+id+`"` {
			t.Fatalf("task %s: %+v, %v; want its payload", id, got.Reply, got.err)
		}
	}
	for _, want := range []string{"hello before ready", "plain text", "{broken", "100%", "origin=stdout"} {
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
			t.Errorf("%s: error %q, %v; want success: %v", tc.id, got.Error, got.err, tc.ok)
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
			t.Errorf("%s: %+v, %v; want an invalid reply", name, got.Reply, got.err)
		}
	}
	got := r.do(Request{TaskID: "fine", Payload: quote(`{"task_id": TASK, "result": 1, "error": null}`)})
	if got.err != nil || string(got.Result) != "1" {
		t.Errorf("afterwards: %+v, %v; want 1", got.Reply, got.err)
	}
}

// quote makes a JSON string in which bytes that are not UTF-8 become the lone surrogates that Python's surrogateescape
// turns back.
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
		t.Errorf("permanent: %+v, want the error and no retry", got.Reply)
	}
	got = r.do(task("b", map[string]any{"fail": "later", "retry_delay": 2.5}))
	if got.Error != "later" || !got.Retry || got.RetryDelay != 2500*time.Millisecond {
		t.Errorf("retry: %+v, want the error and a retry after 2.5 s", got.Reply)
	}
}

func TestDuplicateAndUnknownReplies(t *testing.T) {
	t.Parallel()
	for _, script := range []string{"duplicate_reply.py", "unknown_id.py"} {
		r := startReady(t, testOptions(script))
		for _, id := range []string{"a", "b"} {
			if got := r.do(task(id, id)); got.err != nil || string(got.Result) != `"`+id+`"` {
				t.Errorf("%s: %+v, %v; want the payload of %s", script, got.Reply, got.err, id)
			}
		}
		eventually(t, "it is logged", func() bool { return strings.Contains(r.log.String(), "not in flight") })
	}
}

func TestStderrFloodBlocksNobody(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("stderr_flood.py"))
	if got := r.do(task("t", 1)); got.err != nil || string(got.Result) != `"flooded"` {
		t.Fatalf("result %s, %v; want \"flooded\"", got.Result, got.err)
	}
	size := 0
	for _, line := range r.Snapshot().Stderr {
		size += len(line)
	}
	if size == 0 || size > maxTailBytes {
		t.Errorf("the tail holds %d bytes, want 1 to %d", size, maxTailBytes)
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
		t.Errorf("the tail is %q, want the one line", tail)
	}
}

// What follows a progress bar is evidence, however long the line has become by then.
func TestAProgressBarHidesNoError(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("echo_v2.py"))
	bar := strings.Repeat("\r 45%|####      | 45/100 [00:10<00:12]", 100)
	r.do(task("t", map[string]any{"say": bar + "\rCUDA error: out of memory"}))
	eventually(t, "it is logged", func() bool {
		return strings.Contains(r.log.String(), `msg="CUDA error: out of memory" origin=stderr`)
	})
	if tail := r.Snapshot().Stderr; len(tail) != 1 || tail[0] != "CUDA error: out of memory" {
		t.Errorf("the tail is %q, want the error", tail)
	}
}

func TestWholeRequestArrives(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("echo_v2.py"))
	q := task("id 1", map[string]any{"whole": true})
	q.Type, q.Queue, q.RetryCount, q.MaxRetry = "image:resize", "low", 2, 25
	q.Crashes, q.Suspicions, q.Timeout = 1, 2, 500*time.Millisecond
	q.Deadline = time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	q.Headers = map[string]string{"trace": "<x>"}
	got := r.do(q)
	want := `{"task_id": "id 1", "type": "image:resize", "payload": {"whole": true}, "retry_count": 2, "max_retry": 25, ` +
		`"crashes": 1, "suspicions": 2, "queue": "low", "deadline": "2026-01-02T02:04:05Z", "timeout": 0.5, "headers": {"trace": "<x>"}}`
	if got.err != nil || string(got.Result) != want {
		t.Errorf("got  %s\nwant %s\n%v", got.Result, want, got.err)
	}
}

func TestManyLargePayloads(t *testing.T) {
	t.Parallel()
	o := testOptions("echo_v2.py")
	o.MaxMessage = 64 << 20
	o.BlockThreshold = testTimeout // on a busy machine the pipes are full for long, with nobody at fault
	r := startReady(t, o)
	big := strings.Repeat("payload ", 2<<20) // 16 MiB
	var answers []<-chan answer
	for _, id := range []string{"a", "b", "c"} {
		answers = append(answers, r.send(context.Background(), task(id, big)))
	}
	for _, a := range answers {
		if got := r.receive(a); got.err != nil || len(got.Result) != len(big)+2 {
			t.Errorf("a result of %d bytes, %v; want %d", len(got.Result), got.err, len(big)+2)
		}
	}
	if got := r.do(task("small", 1)); errors.Is(got.err, ErrNotRun) || string(got.Result) != "1" {
		t.Errorf("afterwards: %+v, %v; want 1", got.Reply, got.err)
	}
}
