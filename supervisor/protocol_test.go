package supervisor

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestEncodeRequest(t *testing.T) {
	for _, tc := range []struct {
		name    string
		payload string
		key     string
		want    string
	}{
		{"json", "{\n \"a\": 1\n}", "payload", `{"a":1}`},
		{"html is left alone", `"<&>"`, "payload", `"<&>"`},
		{"empty", "", "payload", "null"},
		{"not json", "a\nb", "payload_base64", `"` + base64.StdEncoding.EncodeToString([]byte("a\nb")) + `"`},
		{"two values", "1 2", "payload_base64", `"` + base64.StdEncoding.EncodeToString([]byte("1 2")) + `"`},
		{"json that is not UTF-8", "\"\xff\"", "payload_base64", `"` + base64.StdEncoding.EncodeToString([]byte("\"\xff\"")) + `"`},
	} {
		line, err := encodeRequest(Request{TaskID: "t", Payload: []byte(tc.payload)})
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(line, &fields); err != nil || bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' {
			t.Fatalf("%s: not one JSON line: %q %v", tc.name, line, err)
		}
		if string(fields[tc.key]) != tc.want {
			t.Errorf("%s: %s", tc.name, line)
		}
		_, plain := fields["payload"]
		_, coded := fields["payload_base64"]
		if plain == coded || string(fields["deadline"]) != "null" || string(fields["headers"]) != "{}" {
			t.Errorf("%s: %s", tc.name, line)
		}
	}
	line, err := encodeRequest(Request{TaskID: "t", Deadline: time.Unix(0, 1500).UTC()})
	if err != nil || !strings.Contains(string(line), `"deadline":"1970-01-01T00:00:00.000001Z"`) {
		t.Errorf("%s %v", line, err)
	}
	if got := string(encodeCancel("a\"\n")); got != "{\"cancel\":\"a\\\"\\n\"}\n" {
		t.Errorf("%s", got)
	}
}

func TestDecode(t *testing.T) {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	for _, tc := range []struct {
		line string
		want message
	}{
		{``, message{}},
		{`plain`, message{}},
		{`{"a":1}`, message{}},
		{`{"items":[{"task_id":"x"}]}`, message{}},
		{`[{"task_id":"x"}]`, message{}},
		{`{"status":"fine"}`, message{}},
		{`{"task_id":"x","result":{"a":[1]},"error":null,"retry":false}`,
			message{kind: kindReply, task: "x", reply: Reply{Result: raw(`{"a":[1]}`)}}},
		{` {"result":null,"task_id":"x"} ` + "\r", message{kind: kindReply, task: "x", reply: Reply{Result: raw(`null`)}}},
		{`{"task_id":"x","error":"E: no","retry":true,"retry_delay":1.5}`,
			message{kind: kindReply, task: "x", reply: Reply{Error: "E: no", Retry: true, RetryDelay: 1500 * time.Millisecond}}},
		{`{"task_id":"x","error":"E: no"}`, message{kind: kindReply, task: "x", reply: Reply{Error: "E: no", Retry: true}}},
		{`{"task_id":"x","error":"E: no","retry":false,"retry_delay":9}`, message{kind: kindReply, task: "x", reply: Reply{Error: "E: no"}}},
		{`{"task_id":"x","error":"E","retry_delay":-3}`, message{kind: kindReply, task: "x", reply: Reply{Error: "E", Retry: true}}},
		{`{"task_id":"x","error":"E","retry_delay":1e300}`,
			message{kind: kindReply, task: "x", reply: Reply{Error: "E", Retry: true, RetryDelay: maxRetryDelay}}},
		{`{"task_id":"x","error":"","result":null}`,
			message{kind: kindReply, task: "x", reply: Reply{Result: raw("null"), Error: "the process gave no error message", Retry: true}}},
		{`{"task_id":"x","error":"","result":1}`, message{kind: kindReply, task: "x", reply: Reply{Result: raw("1")}}},
		{`{"task_id":"x","error":{"code":5}}`, message{kind: kindReply, task: "x", reply: Reply{Error: `{"code":5}`, Retry: true}}},
		{`loading 99%{"task_id":"x","result":1}`,
			message{kind: kindReply, task: "x", reply: Reply{Result: raw("1")}, stray: []byte("loading 99%")}},
		{`{"pong":3,"lag":0.25,"stats":{"gc":[{"generation":2,"collections":4,"collected":5,"uncollectable":6}]}}`,
			message{kind: kindPong, pong: 3, lag: 250 * time.Millisecond, gc: []GCStats{{2, 4, 5, 6}}}},
		{`{"status":"ready"}`, message{kind: kindReady, protocol: 1, handlers: "sync"}},
		{`{"status":"ready","handlers":"async"}`, message{kind: kindReady, protocol: 1, handlers: "sync"}},
		{`{"status":"ready","protocol":3,"handlers":"async","pid":77,"python":{"implementation":"PyPy","version":"3.9.1","major":3,"minor":9,"patchlevel":1},"sdk":"9"}`,
			message{kind: kindReady, protocol: 2, handlers: "async", pid: 77, python: PythonInfo{"PyPy", "3.9.1", 3, 9, 1}}},
		{`{"status":"error","error":"no model"}`, message{kind: kindFailed, err: "no model"}},
		{`{"status":"error"}`, message{kind: kindFailed, err: "the process gave no error message"}},
	} {
		if got := decode([]byte(tc.line)); !reflect.DeepEqual(got, tc.want) {
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
		if got, ok := findTaskID([]byte(text)); got != want || ok != (want != "") {
			t.Errorf("%s: %q %v", text, got, ok)
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
		`x{"task_id":"x"}`, `{"task_id":"x","result":NaN}`, "{\"task_id\":\"\xff\"}", `{`, `"\`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m := decode(line)
		switch m.kind {
		case kindReply:
			if m.reply.Result != nil && !json.Valid(m.reply.Result) {
				t.Errorf("result is not JSON: %q", m.reply.Result)
			}
			if m.reply.RetryDelay < 0 || m.reply.RetryDelay > maxRetryDelay {
				t.Errorf("retry delay %v", m.reply.RetryDelay)
			}
			if m.reply.Error == "" && m.reply.Retry {
				t.Error("a success to be retried")
			}
		case kindInvalid:
			if m.task == "" || m.err == "" {
				t.Errorf("%+v", m)
			}
		case kindPong:
			if m.lag < 0 || len(m.gc) > 8 {
				t.Errorf("%+v", m)
			}
		case kindProgress:
			n := m.note
			if n.task == "" || n.fraction != unknownShare && !(n.fraction >= 0 && n.fraction <= 1) || n.fraction < 0 && n.text == "" ||
				utf8.RuneCountInString(n.text) > progressMessageMax || strings.ContainsFunc(n.text, unicode.IsControl) {
				t.Errorf("%+v", n)
			}
		case kindLog:
			n := m.note
			if n.text == "" || len(n.text) > logLineMax || len(n.fields) > logFieldsMax || utf8.RuneCountInString(n.logger) > logNameMax {
				t.Errorf("%+v", n)
			}
			for _, f := range n.fields {
				if f.Key == "" || utf8.RuneCountInString(f.Key) > logNameMax || len(f.Value.String()) > logValueMax {
					t.Errorf("%+v", f)
				}
			}
		}
	})
}

// Whatever a task holds becomes one line that says it again.
func FuzzEncodeRequest(f *testing.F) {
	f.Add("id", "type", []byte(`{"a":"\n"}`), "k", "v")
	f.Add("id\n\"", "\xff", []byte("\x00\xff"), "", "")
	f.Fuzz(func(t *testing.T, id, kind string, payload []byte, key, value string) {
		line, err := encodeRequest(Request{TaskID: id, Type: kind, Payload: payload, Headers: map[string]string{key: value}})
		if id == "" {
			if err == nil {
				t.Error("no id, no error")
			}
			return
		}
		if err != nil || bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Fatalf("%q %v", line, err)
		}
		var back struct {
			Payload json.RawMessage
			Base64  []byte `json:"payload_base64"`
		}
		if err := json.Unmarshal(line, &back); err != nil {
			t.Fatal(err)
		}
		if back.Payload == nil && !bytes.Equal(back.Base64, payload) {
			t.Errorf("payload %q became %q", payload, back.Base64)
		}
	})
}
