package queue

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// message is what the engine needs of asynq's stored task. The format is asynq's protobuf TaskMessage; the field
// numbers are those of internal/proto/asynq.proto in asynq v0.26, which the contract test holds against asynq itself.
type message struct {
	Type       string
	Payload    []byte
	Headers    map[string]string
	ID         string
	Queue      string
	MaxRetry   int
	Retried    int
	ErrorMsg   string
	UniqueKey  string        // of the lock that the task took when it was enqueued
	Timeout    time.Duration // negative when it was over before the task was enqueued
	Deadline   time.Time
	Retention  time.Duration
	LastFailed time.Time
	// TimeoutSeconds and DeadlineUnix are the limits as they are stored, for effectiveDeadline; 0 is none.
	TimeoutSeconds, DeadlineUnix int64
}

const (
	fieldType         = protowire.Number(1)
	fieldPayload      = protowire.Number(2)
	fieldID           = protowire.Number(3)
	fieldQueue        = protowire.Number(4)
	fieldRetry        = protowire.Number(5)
	fieldRetried      = protowire.Number(6)
	fieldErrorMsg     = protowire.Number(7)
	fieldTimeout      = protowire.Number(8)
	fieldDeadline     = protowire.Number(9)
	fieldUniqueKey    = protowire.Number(10)
	fieldLastFailedAt = protowire.Number(11)
	fieldRetention    = protowire.Number(12)
	fieldGroupKey     = protowire.Number(14)
	fieldHeaders      = protowire.Number(15)
)

var errNotUTF8 = errors.New("a text field is not UTF-8")

// decodeMessage reads an encoded TaskMessage. It refuses what asynq's own decoder refuses, so that a message which
// passes here is never dropped there. The payload is not copied.
func decodeMessage(b []byte) (*message, error) {
	m := &message{}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, fmt.Errorf("decode task message: %w", protowire.ParseError(n))
		}
		b = b[n:]
		var err error
		switch typ {
		case protowire.VarintType:
			v, k := protowire.ConsumeVarint(b)
			if n = k; n >= 0 {
				m.setNumber(num, v)
			}
		case protowire.BytesType:
			v, k := protowire.ConsumeBytes(b)
			if n = k; n >= 0 {
				err = m.setBytes(num, v)
			}
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return nil, fmt.Errorf("decode task message: field %d: %w", num, protowire.ParseError(n))
		}
		if err != nil {
			return nil, fmt.Errorf("decode task message: field %d: %w", num, err)
		}
		b = b[n:]
	}
	return m, nil
}

func (m *message) setNumber(num protowire.Number, v uint64) {
	switch num { //nolint:exhaustive // the other fields are not needed
	case fieldRetry:
		m.MaxRetry = int(int32(v))
	case fieldRetried:
		m.Retried = int(int32(v))
	case fieldTimeout:
		m.TimeoutSeconds, m.Timeout = int64(v), seconds(v)
	case fieldDeadline:
		m.DeadlineUnix, m.Deadline = int64(v), time.Time{}
		if v != 0 {
			m.Deadline = time.Unix(int64(v), 0)
		}
	case fieldLastFailedAt:
		if v != 0 {
			m.LastFailed = time.Unix(int64(v), 0)
		}
	case fieldRetention:
		m.Retention = max(0, seconds(v))
	}
}

func (m *message) setBytes(num protowire.Number, v []byte) error {
	var text *string
	switch num { //nolint:exhaustive // the other fields are not needed
	case fieldPayload:
		m.Payload = v
		return nil
	case fieldHeaders:
		return m.addHeader(v)
	case fieldType:
		text = &m.Type
	case fieldID:
		text = &m.ID
	case fieldQueue:
		text = &m.Queue
	case fieldErrorMsg:
		text = &m.ErrorMsg
	case fieldUniqueKey:
		text = &m.UniqueKey
	case fieldGroupKey: // not needed, and asynq's decoder looks at it all the same
	default:
		return nil
	}
	if !utf8.Valid(v) {
		return errNotUTF8
	}
	if text != nil {
		*text = string(v)
	}
	return nil
}

// addHeader reads one entry of the map, which protobuf encodes as a message of key (1) and value (2).
func (m *message) addHeader(b []byte) error {
	var entry [2]string
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if typ == protowire.BytesType && (num == 1 || num == 2) {
			v, k := protowire.ConsumeBytes(b)
			if k >= 0 && !utf8.Valid(v) {
				return errNotUTF8
			}
			if n = k; n >= 0 {
				entry[num-1] = string(v)
			}
		} else {
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
	}
	if m.Headers == nil {
		m.Headers = make(map[string]string)
	}
	m.Headers[entry[0]] = entry[1]
	return nil
}

// seconds turns asynq's whole seconds, which may be negative, into a duration, capped where a duration ends.
func seconds(v uint64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Second)
	return time.Duration(min(max(int64(v), -most), most)) * time.Second
}
