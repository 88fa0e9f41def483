package queue

import (
	"google.golang.org/protobuf/encoding/protowire"
)

const fieldCompletedAt = protowire.Number(13)

// failed returns the message to store for a task whose attempt has failed with a text, which must be UTF-8. raw is the
// stored message that m was decoded from; all that does not change is kept byte for byte, unknown fields too. A counted
// failure is one more retry; asynq counts none when it archives. When the task failed is left out: the cycle script
// appends it.
func (m *message) failed(raw []byte, text string, counted bool) []byte {
	const ends = 32 // of the fields that are appended, here and in the script
	out := make([]byte, 0, len(raw)+len(text)+ends)
	out = appendWithout(out, raw, fieldRetried, fieldErrorMsg, fieldLastFailedAt)
	retried := int32(m.Retried)
	if counted {
		retried++
	}
	if retried != 0 {
		out = protowire.AppendTag(out, fieldRetried, protowire.VarintType)
		out = protowire.AppendVarint(out, uint64(int64(retried)))
	}
	if text != "" {
		out = protowire.AppendTag(out, fieldErrorMsg, protowire.BytesType)
		out = protowire.AppendString(out, text)
	}
	return out
}

// completedMessage returns the message to store for a task that succeeded and is kept. When it completed is left out:
// the cycle script appends it.
func completedMessage(raw []byte) []byte {
	return appendWithout(make([]byte, 0, len(raw)), raw, fieldCompletedAt)
}

// appendWithout appends an encoded message without some of its fields. One that is encoded in another way than asynq
// does it is unknown to asynq, and stays.
func appendWithout(out, raw []byte, without ...protowire.Number) []byte {
	kept := 0 // raw up to here is in out, or left out
	for at := 0; at < len(raw); {
		num, typ, n := protowire.ConsumeField(raw[at:])
		if n < 0 {
			break // never in a message that was decoded; what follows stays as it is
		}
		for _, w := range without {
			if num == w && typ == wireType(w) {
				out = append(out, raw[kept:at]...)
				kept = at + n
			}
		}
		at += n
	}
	return append(out, raw[kept:]...)
}

// wireType is how asynq encodes a field that is left out.
func wireType(num protowire.Number) protowire.Type {
	if num == fieldErrorMsg {
		return protowire.BytesType
	}
	return protowire.VarintType
}
