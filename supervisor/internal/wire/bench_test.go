package wire

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// payloads are values of typical sizes: numbers, one text, and many small objects.
func payloads() map[string]string {
	var rows strings.Builder
	for i := 0; rows.Len() < 1<<20; i++ {
		fmt.Fprintf(&rows, `,{"id":%d,"name":"item \"%d\"","score":%d.5,"ok":true}`, i, i, i%100)
	}
	return map[string]string{
		"small":    `{"n":1}`,
		"1KB":      `{"text":"` + strings.Repeat("lorem ipsum ", 85) + `"}`,
		"1MB text": `{"text":"` + strings.Repeat("lorem ipsum ", 1<<20/12) + `"}`,
		"1MB rows": "[" + rows.String()[1:] + "]",
	}
}

func BenchmarkEncodeTask(b *testing.B) {
	for name, payload := range payloads() {
		b.Run(name, func(b *testing.B) {
			t := Task{
				ID: "0b7c9f9e-6a54-4c2e-9f3e-1a2b3c4d5e6f", Queue: "inference_default", Type: "resize", Payload: []byte(payload),
				MaxRetry: 25, Deadline: time.Unix(1_900_000_000, 0),
			}
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := EncodeTask(t); err != nil {
					b.Fatalf("encode: %v", err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, result := range payloads() {
		b.Run(name, func(b *testing.B) {
			line := []byte(`{"task_id":"0b7c9f9e-6a54-4c2e-9f3e-1a2b3c4d5e6f","result":` + result +
				`,"error":null,"retry":false,"seconds":0.000012}`)
			b.SetBytes(int64(len(result)))
			b.ReportAllocs()
			for b.Loop() {
				if m := Decode(line); m.Kind != KindReply {
					b.Fatalf("kind %d, want a reply", m.Kind)
				}
			}
		})
	}
}
