package queue

import (
	"bytes"
	"math"
	"testing"
	"unicode/utf8"

	_ "github.com/hibiken/asynq" // registers its message
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// decodeAsAsynq decodes with the code that asynq itself decodes with.
func decodeAsAsynq(t testing.TB, raw []byte) (protoreflect.Message, error) {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName("asynq.TaskMessage")
	if err != nil {
		t.Fatal(err)
	}
	m := kind.New()
	return m, proto.Unmarshal(raw, m.Interface())
}

// setField sets a field of a message of asynq's by its name.
func setField(m protoreflect.Message, name string, value any) {
	m.Set(m.Descriptor().Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOf(value))
}

// appendNow appends a time as the cycle script does.
func appendNow(raw []byte, num protowire.Number, now int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(raw, num, protowire.VarintType), uint64(now))
}

// What we store after a failure or a success decodes in asynq to what it would have written itself: the message as it
// was, with the fields changed that asynq's Retry, Archive and MarkAsComplete change.
func FuzzStoredMessage(f *testing.F) {
	f.Add([]byte("\n\x04echo\x12\x02{}\x1a\x02id\"\x01q(\x19@\x3c"), "boom", true, int64(1_700_000_000))
	f.Add([]byte("0\x03:\x03oldX\x80\x80\x01z\x06\n\x01k\x12\x01v\xa2\x06\x01xh\x05"), "", false, int64(1))
	f.Add(protowire.AppendVarint([]byte{0x30}, math.MaxInt32), "é", true, int64(1<<40)) // one more wraps around, as in asynq
	f.Add([]byte("2\x01a0\x010\x02"), "text", true, int64(127))                         // a field of another kind, and one that is there twice
	f.Fuzz(func(t *testing.T, raw []byte, text string, counted bool, now int64) {
		m, err := decodeMessage(raw)
		if err != nil || !utf8.ValidString(text) || now < 1 {
			return
		}
		want, err := decodeAsAsynq(t, raw)
		if err != nil {
			return // what asynq does not read, nobody runs
		}
		before := bytes.Clone(raw)
		completed, err := decodeAsAsynq(t, appendNow(completedMessage(raw), fieldCompletedAt, now))
		if err != nil {
			t.Fatal(err)
		}
		setField(want, "completed_at", now)
		if !proto.Equal(completed.Interface(), want.Interface()) {
			t.Errorf("completed: %v, want %v", completed, want)
		}

		want, _ = decodeAsAsynq(t, raw)
		failed, err := decodeAsAsynq(t, appendNow(m.failed(raw, text, counted), fieldLastFailedAt, now))
		if err != nil {
			t.Fatal(err)
		}
		retried := int32(want.Get(want.Descriptor().Fields().ByName("retried")).Int())
		if counted {
			retried++
		}
		setField(want, "retried", retried)
		setField(want, "error_msg", text)
		setField(want, "last_failed_at", now)
		if !proto.Equal(failed.Interface(), want.Interface()) {
			t.Errorf("failed: %v, want %v", failed, want)
		}
		if !bytes.Equal(raw, before) {
			t.Error("the message that was read has changed")
		}
	})
}

func BenchmarkFailedMessage(b *testing.B) {
	raw := protowire.AppendBytes([]byte("\n\x04echo\x12"), make([]byte, 1<<20))
	raw = append(raw, "\x1a\x02id\"\x01q(\x19@\x3c"...)
	m, err := decodeMessage(raw)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		m.failed(raw, "boom", true)
	}
}
