package wire

import (
	"reflect"
	"testing"
)

// successes are lines in, and nearly in, the form in which the SDK writes them.
func successes() []string {
	lines := []string{
		`{"task_id":"x","result":1,"error":null,"retry":false}`,
		`{"task_id":"x","result":"a\"b","error":null,"retry":false,"seconds":1.2e-05}`,
		`{"task_id":"","result":[],"error":null,"retry":false,"seconds":0}`,
		`{"task_id":"x","result":null,"error":null,"retry":false,"seconds":-1}`,
		`{"task_id":"x","result":null,"error":null,"retry":false,"seconds":1e99}`,
		`{"task_id":"x","result":null,"error":null,"retry":false,"seconds":1e999}`,
		`{"task_id":"x","result":null,"error":null,"retry":false,"seconds":01}`,
		`{"task_id":"x","result":null,"error":null,"retry":false,"seconds":.5}`,
		`{"task_id":"x","result":null,"error":null,"retry":false,"seconds":+5}`,
		`{"task_id":"x","result":null,"error":null,"retry":false,"seconds":0x5}`,
		`{"task_id":"x","result":null,"error":null,"retry":false,"seconds":null}`,
		`{"task_id":"x","result":null,"error":null,"retry":false,"seconds":}`,
		`{"task_id":"x","result": 1 ,"error":null,"retry":false}`,
		`{"task_id":"x","result":1,"error":"E","result":2,"error":null,"retry":false}`,
		`{"task_id":"x","result":{"a":1,"error":null,"retry":false},"error":null,"retry":false}`,
		`{"task_id":"x","result":{"a":1},"error":null,"retry":false}}`,
		`{"task_id":"x","result":NaN,"error":null,"retry":false}`,
		`{"task_id":"x\u00e9","result":1,"error":null,"retry":false}`,
		"{\"task_id\":\"x\xff\",\"result\":1,\"error\":null,\"retry\":false}",
		"{\"task_id\":\"x\",\"result\":\"\xff\",\"error\":null,\"retry\":false}",
		`{"task_id":"é","result":"é","error":null,"retry":false,"seconds":3}`,
		`{"task_id":"x","result":,"error":null,"retry":false}`,
		`{"task_id":"x","result":1,"error":null,"retry":true}`,
		`{"task_id":"x"}`, `{"task_id":"`, `{"task_id":"x","result":}`, `{}`,
	}
	for _, v := range values() {
		lines = append(lines, `{"task_id":"x","result":`+v+`,"error":null,"retry":false,"seconds":0.000012}`)
	}
	return lines
}

// checkSuccess fails when the two ways to read a line differ.
func checkSuccess(t *testing.T, line []byte) bool {
	t.Helper()
	fast, ok := decodeSuccess(line)
	if !ok {
		return false
	}
	if general, valid := decodeObject(line); !valid || !reflect.DeepEqual(fast, general) {
		t.Errorf("%.200q:\n got %+v\nwant %+v, valid %v", line, fast, general, valid)
	}
	return true
}

func TestDecodeSuccess(t *testing.T) {
	read := 0
	for _, line := range successes() {
		if checkSuccess(t, []byte(line)) {
			read++
		}
	}
	if read < 20 {
		t.Errorf("%d of the lines were read the fast way, want at least 20", read)
	}
	// What the SDK writes must be.
	for _, line := range successes()[:5] {
		if _, ok := decodeSuccess([]byte(line)); !ok {
			t.Errorf("%s was not read the fast way", line)
		}
	}
}

func FuzzDecodeSuccess(f *testing.F) {
	for _, line := range successes() {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		checkSuccess(t, line)
		checkSuccess(t, append(append([]byte(`{"task_id":"x","result":`), line...), `,"error":null,"retry":false,"seconds":2}`...))
	})
}
