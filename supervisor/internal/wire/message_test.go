package wire

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestDecode(t *testing.T) {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	for _, tc := range []struct {
		line string
		want Message
	}{
		{``, Message{}},
		{`plain`, Message{}},
		{`{"a":1}`, Message{}},
		{`{"items":[{"task_id":"x"}]}`, Message{}},
		{`[{"task_id":"x"}]`, Message{}},
		{`{"status":"fine"}`, Message{}},
		{`{"task_id":"x","result":{"a":[1]},"error":null,"retry":false}`,
			Message{Kind: KindReply, TaskID: "x", Reply: Reply{Result: raw(`{"a":[1]}`)}}},
		{` {"result":null,"task_id":"x"} ` + "\r", Message{Kind: KindReply, TaskID: "x", Reply: Reply{Result: raw(`null`)}}},
		{`{"task_id":"x","error":"E: no","retry":true,"retry_delay":1.5}`,
			Message{Kind: KindReply, TaskID: "x", Reply: Reply{Error: "E: no", Retry: true, RetryDelay: 1500 * time.Millisecond, HasRetryDelay: true}}},
		{`{"task_id":"x","error":"E: no"}`, Message{Kind: KindReply, TaskID: "x", Reply: Reply{Error: "E: no", Retry: true}}},
		{`{"task_id":"x","error":"E: no","retry":false,"retry_delay":9}`, Message{Kind: KindReply, TaskID: "x", Reply: Reply{Error: "E: no"}}},
		{`{"task_id":"x","error":"E","retry_delay":-3}`,
			Message{Kind: KindReply, TaskID: "x", Reply: Reply{Error: "E", Retry: true, HasRetryDelay: true}}},
		{`{"task_id":"x","error":"E","retry_delay":0}`,
			Message{Kind: KindReply, TaskID: "x", Reply: Reply{Error: "E", Retry: true, HasRetryDelay: true}}},
		{`{"task_id":"x","error":"E","retry_delay":null}`, Message{Kind: KindReply, TaskID: "x", Reply: Reply{Error: "E", Retry: true}}},
		{`{"task_id":"x","result":1,"error":null,"retry":false,"seconds":0.25}`,
			Message{Kind: KindReply, TaskID: "x", Reply: Reply{Result: raw("1"), Took: 250 * time.Millisecond, HasTook: true}}},
		{`{"task_id":"x","seconds":0,"error":"E","retry":false}`,
			Message{Kind: KindReply, TaskID: "x", Reply: Reply{Error: "E", HasTook: true}}},
		{`{"task_id":"x","retry":false}`, Message{Kind: KindInvalid, TaskID: "x", Error: "it has neither a result nor an error"}},
		{`{"task_id":"x","error":null}`, Message{Kind: KindReply, TaskID: "x"}},
		{`{"withdrawn":"x"}`, Message{Kind: KindWithdrawn, TaskID: "x"}},
		{`{"withdrawn":5}`, Message{}},
		{`{"task_id":"x","error":"E","retry_delay":1e300}`,
			Message{Kind: KindReply, TaskID: "x", Reply: Reply{Error: "E", Retry: true, RetryDelay: maxDuration, HasRetryDelay: true}}},
		{`{"task_id":"x","error":"","result":null}`,
			Message{Kind: KindReply, TaskID: "x", Reply: Reply{Result: raw("null"), Error: "the process gave no error message", Retry: true}}},
		{`{"task_id":"x","error":"","result":1}`, Message{Kind: KindReply, TaskID: "x", Reply: Reply{Result: raw("1")}}},
		{`{"task_id":"x","error":{"code":5}}`, Message{Kind: KindReply, TaskID: "x", Reply: Reply{Error: `{"code":5}`, Retry: true}}},
		{`loading 99%{"task_id":"x","result":1}`,
			Message{Kind: KindReply, TaskID: "x", Reply: Reply{Result: raw("1")}, Output: []byte("loading 99%")}},
		{`{"pong":3,"lag":0.25,"stats":{"gc":[{"generation":2,"collections":4,"collected":5,"uncollectable":6}]}}`,
			Message{Kind: KindPong, Pong: 3, Lag: 250 * time.Millisecond, GC: []GC{{2, 4, 5, 6}}}},
		{`{"pong":3,"lag":0,"main":true}`, Message{Kind: KindPong, Pong: 3}},
		{`{"pong":3,"lag":0,"main":false}`, Message{Kind: KindPong, Pong: 3, MainGone: true}},
		{`{"check":3,"ok":true}`, Message{Kind: KindChecked, Check: 3}},
		{`{"check":3,"ok":false,"error":"no GPU"}`, Message{Kind: KindChecked, Check: 3, Error: "no GPU"}},
		{`{"check":3}`, Message{Kind: KindChecked, Check: 3, Error: "the process gave no error message"}},
		{`{"check":3,"ok":"yes"}`, Message{Kind: KindChecked, Check: 3, Error: "the process gave no error message"}},
		{`{"check":"three","ok":true}`, Message{}},
		{`{"task_id":"x","result":1,"check":"a","ok":5,"broken":"no","main":[]}`,
			Message{Kind: KindReply, TaskID: "x", Reply: Reply{Result: raw("1")}}},
		{`{"task_id":"x","error":"E","retry":true,"broken":true}`,
			Message{Kind: KindReply, TaskID: "x", Reply: Reply{Error: "E", Retry: true, Broken: true}}},
		{`{"task_id":"x","result":1,"broken":true}`, Message{Kind: KindReply, TaskID: "x", Reply: Reply{Result: raw("1")}}},
		{`{"status":"ready"}`, Message{Kind: KindReady, Ready: Ready{Protocol: 1, Handlers: Sync}}},
		{`{"status":"ready","handlers":"async"}`, Message{Kind: KindReady, Ready: Ready{Protocol: 1, Handlers: Sync}}},
		{`{"status":"ready","protocol":3,"handlers":"async","pid":77,"python":{"implementation":"PyPy","version":"3.9.1","major":3,"minor":9,"patchlevel":1},"sdk":"9"}`,
			Message{Kind: KindReady, Ready: Ready{Protocol: 2, Handlers: Async, PID: 77, Python: Python{"PyPy", "3.9.1", 3, 9, 1}}}},
		{`{"status":"ready","protocol":2,"types":{"a":"sync","b":"async","c":5},"features":["ping",7,"withdraw"],"handlers":"async"}`,
			Message{Kind: KindReady, Ready: Ready{Protocol: 2, Handlers: Async, Types: map[string]string{"a": "sync", "b": "async"},
				Features: []string{"ping", "withdraw"}}}},
		{`{"status":"ready","protocol":2,"types":["a"],"features":{"withdraw":true}}`,
			Message{Kind: KindReady, Ready: Ready{Protocol: 2, Handlers: Sync}}},
		{`{"status":"ready","protocol":2,"types":{"b":"async"}}`,
			Message{Kind: KindReady, Ready: Ready{Protocol: 2, Handlers: Async, Types: map[string]string{"b": "async"}}}},
		{`{"status":"ready","types":{"b":"async"},"features":["withdraw"]}`,
			Message{Kind: KindReady, Ready: Ready{Protocol: 1, Handlers: Sync}}},
		{`{"status":"error","error":"no model"}`, Message{Kind: KindFailed, Error: "no model"}},
		{`{"status":"error"}`, Message{Kind: KindFailed, Error: "the process gave no error message"}},
	} {
		if got := Decode([]byte(tc.line)); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s\n got %+v\nwant %+v", tc.line, got, tc.want)
		}
	}
}

func TestFindTaskID(t *testing.T) {
	for text, want := range map[string]string{
		`{"task_id":"a","result":NaN}`:                       "a",
		`{"result":{"task_id":"no"},"x":[NaN],"task_id":"b"`: "b",
		`{"x":"\"task_id\":\"no\"","task_id" : "c"`:          "c",
		`{"t":"task_id","task_id":"d`:                        "",
		`{"x":"task_id","y":"no"}`:                           "",
		`{"result":{"task_id":"no"}`:                         "",
		`{"task_id":5,"x":"no"}`:                             "",
		`{"task_id":"\u0065"}`:                               "e",
		`"task_id":"no"`:                                     "",
		`{"task_id":""}`:                                     "",
	} {
		if got, ok := FindTaskID([]byte(text)); got != want || ok != (want != "") {
			t.Errorf("FindTaskID(%s) = %q, %v; want %q", text, got, ok, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"task_id":"x","result":{"a":[1]},"error":null,"retry":false}`,
		`{"task_id":"x","error":"E","retry_delay":1e300}`,
		`{"pong":3,"lag":0.25,"stats":{"gc":[{"generation":2}]}}`,
		`{"status":"ready","protocol":2}`, `{"status":"error","error":5}`,
		`{"progress":{"task_id":"x","fraction":0.4,"message":"epoch 4"}}`, `{"progress":{"task_id":"x","fraction":NaN}}`,
		`{"progress":{"task_id":"x","fraction":-1e999,"message":"\u001b[31m\n"}}`, `{"progress":{"task_id":5,"fraction":"0.4"}}`,
		`{"log":{"task_id":"x","level":"warn","message":"m","logger":"l","fields":{"a":1,"b":"c","d":true,"e":[1],"f":null,"g":1e999}}}`,
		`{"log":[]}`, `{"log":{"fields":{"":{}},"message":"m"}}`, `{ "log":`,
		`{"withdrawn":"x"}`, `x{"task_id":"x"}`, `{"task_id":"x","result":NaN}`, "{\"task_id\":\"\xff\"}", `{`, `"\`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m := Decode(line)
		switch m.Kind {
		case KindReply:
			if m.Reply.Result != nil && !json.Valid(m.Reply.Result) {
				t.Errorf("the result is %q, want JSON", m.Reply.Result)
			}
			if m.Reply.Took < 0 || m.Reply.Took > maxDuration {
				t.Errorf("it took %v, want 0 to %v", m.Reply.Took, maxDuration)
			}
			if m.Reply.RetryDelay < 0 || m.Reply.RetryDelay > maxDuration {
				t.Errorf("retry delay %v, want 0 to %v", m.Reply.RetryDelay, maxDuration)
			}
			if m.Reply.Error == "" && m.Reply.Retry {
				t.Error("a success is to be retried, want retries of failures only")
			}
		case KindInvalid:
			if m.TaskID == "" || m.Error == "" {
				t.Errorf("an invalid reply without task or error: %+v", m)
			}
		case KindPong:
			if m.Lag < 0 || len(m.GC) > 8 {
				t.Errorf("pong out of bounds: %+v", m)
			}
		case KindProgress:
			r := m.Report
			if r.TaskID == "" || r.Fraction != UnknownFraction && !(r.Fraction >= 0 && r.Fraction <= 1) || r.Fraction < 0 && r.Message == "" ||
				utf8.RuneCountInString(r.Message) > maxProgressMessage || strings.ContainsFunc(r.Message, unicode.IsControl) {
				t.Errorf("report out of bounds: %+v", r)
			}
		case KindLog:
			r := m.Report
			if r.Message == "" || len(r.Message) > MaxLogLine || len(r.Fields) > maxFields || utf8.RuneCountInString(r.Logger) > maxName {
				t.Errorf("report out of bounds: %+v", r)
			}
			for _, f := range r.Fields {
				if f.Key == "" || utf8.RuneCountInString(f.Key) > maxName || len(f.Value.String()) > maxValue {
					t.Errorf("field out of bounds: %+v", f)
				}
			}
		}
	})
}
