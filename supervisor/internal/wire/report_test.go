package wire

import (
	"log/slog"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func TestDecodeProgress(t *testing.T) {
	long := strings.Repeat("é", 300)
	for line, want := range map[string]Report{
		`{"progress":{"task_id":"x","fraction":0.4,"message":"epoch 4"}}`: {TaskID: "x", Fraction: 0.4, Message: "epoch 4"},
		`{"progress":{"task_id":"x","fraction":0}}`:                       {TaskID: "x"},
		`{"progress":{"task_id":"x","fraction":7}}`:                       {TaskID: "x", Fraction: 1},
		`{"progress":{"task_id":"x","fraction":-7,"message":"m"}}`:        {TaskID: "x", Message: "m"},
		`{"progress":{"task_id":"x","fraction":1e999,"message":"m"}}`:     {TaskID: "x", Fraction: UnknownFraction, Message: "m"},
		`{"progress":{"task_id":"x","fraction":"0.4","message":"m"}}`:     {TaskID: "x", Fraction: UnknownFraction, Message: "m"},
		`{"progress":{"task_id":"x","fraction":null,"message":"m"}}`:      {TaskID: "x", Fraction: UnknownFraction, Message: "m"},
		`{"progress":{"task_id":"x","fraction":0.4,"message":["m"]}}`:     {TaskID: "x", Fraction: 0.4},
		`{"progress":{"task_id":"x","fraction":1,"message":"\u001b[31m\ta\r\nb\u0000\u009f"}}`: {
			TaskID: "x", Fraction: 1, Message: "[31mab"},
		`{"progress":{"task_id":"x","fraction":1,"message":"` + long + `"}}`: {TaskID: "x", Fraction: 1, Message: long[:2*maxProgressMessage]},
	} {
		if got := Decode([]byte(line)); got.Kind != KindProgress || !reflect.DeepEqual(got.Report, want) {
			t.Errorf("%s\n got %+v\nwant %+v", line, got, want)
		}
	}
	for _, line := range []string{
		`{"progress":null}`, `{"progress":0.4}`, `{"progress":{}}`, `{"progress":{"task_id":"x"}}`, `{"progress":{"fraction":0.4}}`,
		`{"progress":{"task_id":5,"fraction":0.4}}`, `{"progress":{"task_id":"x","fraction":"0.4"}}`,
		`{"progress":{"task_id":"x","fraction":NaN}}`, `{ "progress" : {"task_id":"x","result":Infinity}}`,
		`{"log":{"task_id":"x","message":`, `{"log":{"task_id":"x","result":1}}`, `{"log":{"message":""}}`, `{"log":"text"}`,
	} {
		if got := Decode([]byte(line)); got.Kind != KindOutput {
			t.Errorf("%s: decoded as %+v, want output that is not protocol", line, got)
		}
	}
}

// What is kept of a long line is little: a process may write many.
func TestReportsKeepNothingOfALongLine(t *testing.T) {
	long := strings.Repeat("m", 256<<10)
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
	var kept []Message
	for range 8 {
		for _, line := range lines {
			m := Decode(line)
			if m.Kind == KindOutput || len(m.Error)+len(m.Report.Message)+len(m.Ready.Python.Implementation)+len(m.Ready.Python.Version) > MaxLogLine {
				t.Fatalf("kind %d with an error of %d and a message of %d bytes, want a message of at most %d bytes",
					m.Kind, len(m.Error), len(m.Report.Message), MaxLogLine)
			}
			kept = append(kept, m)
		}
	}
	if after := used(); after > before+1<<20 {
		t.Errorf("%d messages keep %d KiB, want at most 1024", len(kept), (after-before)>>10)
	}
	runtime.KeepAlive(kept)
}

func TestDecodeLog(t *testing.T) {
	for line, want := range map[string]Report{
		`{"log":{"message":"m"}}`: {Message: "m"},
		`{"log":{"task_id":"x","level":"WARNING","message":"m\nn","logger":"my.app","fields":{"b":"c","a":1,"d":true,"e":[1],"f":null,"":2,"g":1.5,"h":1e999}}}`: {
			TaskID: "x", Level: slog.LevelWarn, Message: "m\nn", Logger: "my.app",
			Fields: []slog.Attr{slog.Int("a", 1), slog.String("b", "c"), slog.Bool("d", true), slog.Float64("g", 1.5), slog.String("h", "1e999")},
		},
		`{"log":{"task_id":5,"level":3,"message":"m","logger":{},"fields":[1]}}`: {Message: "m"},
		`{"log":{"level":"critical","message":"m"}}`:                             {Message: "m", Level: slog.LevelError},
		`{"log":{"level":"debug","message":"m"}}`:                                {Message: "m", Level: slog.LevelDebug},
		`{"log":{"level":"shout","message":"m"}}`:                                {Message: "m"},
	} {
		got := Decode([]byte(line))
		if got.Kind != KindLog || len(got.Report.Fields) != len(want.Fields) {
			t.Errorf("%s\n got %+v\nwant %+v", line, got, want)
			continue
		}
		for i, f := range got.Report.Fields {
			if !f.Equal(want.Fields[i]) {
				t.Errorf("%s: field %v, want %v", line, f, want.Fields[i])
			}
		}
		got.Report.Fields, want.Fields = nil, nil
		if !reflect.DeepEqual(got.Report, want) {
			t.Errorf("%s\n got %+v\nwant %+v", line, got.Report, want)
		}
	}
}
