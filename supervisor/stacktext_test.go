package supervisor

import (
	"strings"
	"testing"
)

const faulthandlerText = `Thread 0x00007f84cbd696c0 (most recent call first):
  File "/sdk/runqy/_runtime.py", line 215 in _read
  File "/usr/lib/python3.11/threading.py", line 982 in run
  File "/usr/lib/python3.11/threading.py", line 1002 in _bootstrap

Thread 0x00007f84cc56a6c0 (most recent call first):
  File "/usr/lib/python3.11/queue.py", line 171 in get
  File "/app/pool.py", line 7 in work
  File "/usr/lib/python3.11/threading.py", line 982 in run

Current thread 0x00007f84cde07b80 (most recent call first):
  File "/usr/lib/python3.11/ssl.py", line 1166 in read
  File "/app/venv/lib/python3.11/site-packages/urllib3/connection.py", line 466 in getresponse
  File "/app/main.py", line 12 in fetch
  File "/sdk/runqy/_runtime.py", line 189 in _execute
  File "/sdk/runqy/_runtime.py", line 64 in run
  File "/app/main.py", line 40 in <module>
`

func TestStacksOfFaulthandler(t *testing.T) {
	t.Parallel()
	s := parseStacks(faulthandlerText)
	s.nameMainThread("t1")
	if got, want := s.where("t1"), "/app/main.py:12 in fetch, in /usr/lib/python3.11/ssl.py:1166 in read"; got != want {
		t.Errorf("it is at %q, want %q", got, want)
	}
	var heads []string
	for line := range strings.Lines(s.text("")) {
		if !strings.HasPrefix(line, " ") {
			heads = append(heads, strings.Fields(line)[1])
		}
	}
	if got, want := strings.Join(heads, " "), "thread 0x00007f84cc56a6c0 0x00007f84cbd696c0"; got != want {
		t.Errorf("the stacks are those of %q, want the main thread, then that with a handler's frames, then the SDK's: %q", got, want)
	}
}

func TestStacksOfAnswer(t *testing.T) {
	t.Parallel()
	s := parseStacks(`thread MainThread (most recent call first):
  File "/usr/lib/python3.11/selectors.py", line 468 in select
  File "/sdk/runqy/_loop.py", line 80 in serve
  File "/sdk/runqy/_runtime.py", line 64 in run
  File "/app/main.py", line 40 in <module>
asyncio task "a \" task" (most recent call first):
  waiting for asyncio task Task-3
  File "/app/main.py", line ??? in join
  File "/sdk/runqy/_loop.py", line 200 in _serve
asyncio task Task-3 (most recent call first):
  File "/usr/lib/python3.11/asyncio/locks.py", line 213 in wait
  File "/app/a"b, line 3.py", line 22 in inner
`)
	for task, want := range map[string]string{
		"":           "/app/main.py:? in join",
		`a " task`:   "/app/main.py:? in join",
		"no such id": "/app/main.py:? in join",
	} {
		if got := s.where(task); got != want {
			t.Errorf("asked for task %q it is at %q, want %q", task, got, want)
		}
	}
	if got, want := s[2].frames[1], (frame{file: `/app/a"b, line 3.py`, line: 22, function: "inner"}); got != want {
		t.Errorf("a frame with quotes in its file is read as %+v, want %+v", got, want)
	}
}

// Where nothing of the task file runs, nothing is named: run is called by the task file too.
func TestStacksOfIdleProcess(t *testing.T) {
	t.Parallel()
	s := parseStacks(`thread MainThread (most recent call first):
  File "/sdk/runqy/_runtime.py", line 160 in _serve_sync
  File "/sdk/runqy/_runtime.py", line 64 in run
  File "/app/main.py", line 40 in <module>
`)
	if got := s.where(""); got != "" {
		t.Errorf("an idle process is at %q, want nowhere", got)
	}
}

func TestStackBrief(t *testing.T) {
	t.Parallel()
	s := Stack{Text: "one\ntwo\nthree\n"}
	for limit, want := range map[int]string{100: "one\ntwo\nthree\n", 9: "one\ntwo\n(cut off)\n", 2: "(cut off)\n"} {
		if got := s.Brief(limit); got != want {
			t.Errorf("up to %d bytes: %q, want %q", limit, got, want)
		}
	}
}

func FuzzParseStacks(f *testing.F) {
	f.Add(faulthandlerText, "t1")
	f.Add("thread x, task \"\\ud800\" (most recent call first):\n  File \"\", line -1 in \n  ...\n", "")
	f.Fuzz(func(t *testing.T, text, task string) {
		s := parseStacks(text)
		s.nameMainThread(task)
		if s.where(task) != "" && s.text(task) == "" {
			t.Errorf("it is at %q, and there are no stacks", s.where(task))
		}
		s.text("")
	})
}
