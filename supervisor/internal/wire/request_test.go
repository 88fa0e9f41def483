package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestEncodeTask(t *testing.T) {
	for _, tc := range []struct {
		name    string
		payload string
		key     string
		want    string
	}{
		{"json", `{"a": [1, "b"]}`, "payload", `{"a": [1, "b"]}`},
		{"json of several lines", "{\n \"a\": 1\n}", "payload", `{"a":1}`},
		{"json with carriage returns", "[1,\r2]", "payload", `[1,2]`},
		{"html is left alone", `"<&>"`, "payload", `"<&>"`},
		{"empty", "", "payload", "null"},
		{"not json", "a\nb", "payload_base64", `"` + base64.StdEncoding.EncodeToString([]byte("a\nb")) + `"`},
		{"two values", "1 2", "payload_base64", `"` + base64.StdEncoding.EncodeToString([]byte("1 2")) + `"`},
		{"json that is not UTF-8", "\"\xff\"", "payload_base64", `"` + base64.StdEncoding.EncodeToString([]byte("\"\xff\"")) + `"`},
	} {
		line, err := EncodeTask(Task{ID: "t", Payload: []byte(tc.payload)})
		if err != nil {
			t.Fatalf("%s: encode: %v", tc.name, err)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(line, &fields); err != nil || bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' {
			t.Fatalf("%s: not one JSON line: %q %v", tc.name, line, err)
		}
		if string(fields[tc.key]) != tc.want {
			t.Errorf("%s: line %s, want %s = %s", tc.name, line, tc.key, tc.want)
		}
		_, plain := fields["payload"]
		_, coded := fields["payload_base64"]
		if plain == coded || string(fields["deadline"]) != "null" || string(fields["headers"]) != "{}" {
			t.Errorf("%s: line %s, want one form of the payload, no deadline and no headers", tc.name, line)
		}
	}
	line, err := EncodeTask(Task{ID: "t", Deadline: time.Unix(0, 1500).UTC()})
	if err != nil || !strings.Contains(string(line), `"deadline":"1970-01-01T00:00:00.000001Z"`) {
		t.Errorf("a deadline of 1500 ns: line %s, %v; want six digits", line, err)
	}
	line, err = EncodeTask(Task{ID: "t", Timeout: 1500 * time.Millisecond, Crashes: 1, Suspicions: 2, RetryCount: 3, MaxRetry: 4})
	want := `{"task_id":"t","type":"","payload":null,"retry_count":3,"max_retry":4,"crashes":1,"suspicions":2,"queue":"",` +
		`"deadline":null,"timeout":1.5,"headers":{}}` + "\n"
	if err != nil || string(line) != want {
		t.Errorf("got %s, %v\nwant %s", line, err, want)
	}
	if got := string(EncodeWithdraw("é\x00")); got != "{\"withdraw\":\"é\\u0000\"}\n" {
		t.Errorf("EncodeWithdraw = %q, want the id quoted", got)
	}
	if got := string(EncodeCancel("a\"\n")); got != "{\"cancel\":\"a\\\"\\n\"}\n" {
		t.Errorf("EncodeCancel = %q, want the id quoted", got)
	}
}

// Whatever a task holds becomes one line that says it again.
func FuzzEncodeTask(f *testing.F) {
	f.Add("id", "type", []byte(`{"a":"\n"}`), "k", "v")
	f.Add("id\n\"", "\xff", []byte("\x00\xff"), "", "")
	f.Fuzz(func(t *testing.T, id, kind string, payload []byte, key, value string) {
		line, err := EncodeTask(Task{ID: id, Type: kind, Payload: payload, Headers: map[string]string{key: value}})
		if id == "" {
			if err == nil {
				t.Error("a task without id was encoded, want an error")
			}
			return
		}
		if err != nil || bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Fatalf("got %q, %v; want one line", line, err)
		}
		var back struct {
			TaskID  string `json:"task_id"`
			Type    string
			Headers map[string]string
			Payload json.RawMessage
			Base64  []byte `json:"payload_base64"`
		}
		if err := json.Unmarshal(line, &back); err != nil {
			t.Fatalf("the line %q is not JSON: %v", line, err)
		}
		said := func(s string) string { return string([]rune(s)) } // each faulty byte is U+FFFD
		if back.TaskID != said(id) || back.Type != said(kind) || back.Headers[said(key)] != said(value) {
			t.Errorf("%q %q %q %q became %+v, want the same", id, kind, key, value, back)
		}
		if back.Payload == nil && !bytes.Equal(back.Base64, payload) {
			t.Errorf("payload %q became %q, want the same", payload, back.Base64)
		}
	})
}
