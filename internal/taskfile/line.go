package taskfile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/runqy/runqy-worker/client"
)

// maxLine bounds one line of a task file in bytes.
const maxLine = 128 << 20

// line is one line of a task file. Everything but the payload may be left out where the defaults give it.
type line struct {
	Queue     *string           `json:"queue"`
	Type      *string           `json:"type"`
	Payload   json.RawMessage   `json:"payload"`
	ID        string            `json:"id"`
	MaxRetry  *int              `json:"max_retry"`
	Timeout   *duration         `json:"timeout"`
	Retention *duration         `json:"retention"`
	In        *duration         `json:"in"`
	Headers   map[string]string `json:"headers"`
}

// duration is a JSON text like "30s".
type duration time.Duration

func (d *duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf(`duration %s is not a text: write "30s"`, data)
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf(`duration %q: write "30s" or "5m"`, text)
	}
	*d = duration(parsed)
	return nil
}

// parseLine reads one line over the defaults.
func parseLine(data []byte, defaults client.Task) (client.Task, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var l line
	if err := decoder.Decode(&l); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) || errors.Is(err, io.ErrUnexpectedEOF) {
			return client.Task{}, fmt.Errorf("not JSON: %w", err)
		}
		return client.Task{}, fmt.Errorf(`not {"payload": …} with optional type, queue, id, max_retry, timeout, retention, in, headers: %w`, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return client.Task{}, errors.New("more than one JSON value in the line")
	}
	t := defaults
	if l.Queue != nil {
		t.Queue = *l.Queue
	}
	if l.Type != nil {
		t.Type = *l.Type
	}
	if l.Payload != nil {
		t.Payload = l.Payload
	} else {
		return client.Task{}, errors.New(`no "payload"; write "payload": null for none`)
	}
	if l.MaxRetry != nil {
		t.MaxRetry = l.MaxRetry
	}
	for _, d := range []struct {
		from *duration
		to   *time.Duration
	}{{l.Timeout, &t.Timeout}, {l.Retention, &t.Retention}, {l.In, &t.In}} {
		if d.from != nil {
			*d.to = time.Duration(*d.from)
		}
	}
	t.ID, t.Headers = l.ID, l.Headers
	if err := t.Validate(); err != nil {
		return client.Task{}, err
	}
	return t, nil
}

var errLineTooLong = fmt.Errorf("longer than %d MiB", maxLine>>20)

// readLine returns the next line without its end, and how many bytes it took. A line past maxLine is consumed to its
// end and reported as errLineTooLong.
func readLine(r *bufio.Reader) (data []byte, n int64, err error) {
	tooLong := false
	for {
		part, err := r.ReadSlice('\n')
		n += int64(len(part))
		if len(data)+len(part) > maxLine {
			tooLong, data = true, nil
		}
		if !tooLong {
			data = append(data, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if errors.Is(err, io.EOF) && n > 0 {
			err = nil // the last line needs no end
		}
		if err == nil && tooLong {
			err = errLineTooLong
		}
		return bytes.TrimRight(data, "\r\n"), n, err
	}
}
