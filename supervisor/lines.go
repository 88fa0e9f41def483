package supervisor

import (
	"bytes"
	"io"
)

const (
	minMessage    = 1 << 10
	readChunk     = 64 << 10
	keptBuffer    = 1 << 20  // a larger buffer is given back after its line
	oversizeShown = 64 << 10 // how much of a too long line is kept to find its task
	logLineMax    = 16 << 10 // stray output is cut into lines of this length
)

// lineReader splits a stream into lines of any length up to max. Past max it
// either cuts (the line goes on in the next one) or skips to the newline.
type lineReader struct {
	r    io.Reader
	max  int
	cut  bool
	buf  []byte // buf[from:to] is read and not yet returned
	from int
	to   int
	err  error
}

// textLine is one line without its newline; data is valid until the next call.
type textLine struct {
	data []byte
	over bool  // longer than max: data is only its beginning
	size int64 // its whole length
}

// next returns the next line. A last line without a newline is returned
// before the error.
func (l *lineReader) next() (textLine, error) {
	if l.from == l.to && cap(l.buf) > keptBuffer {
		l.buf, l.from, l.to = nil, 0, 0
	}
	searched := l.from
	for {
		if i := bytes.IndexByte(l.buf[searched:l.to], '\n'); i >= 0 {
			line := l.buf[l.from : searched+i]
			l.from = searched + i + 1
			if len(line) > l.max && !l.cut {
				return textLine{data: line[:min(len(line), oversizeShown)], over: true, size: int64(len(line))}, nil
			}
			if len(line) > l.max {
				l.from -= len(line) - l.max + 1 // the rest, with its newline, comes next
				line = line[:l.max]
			}
			return textLine{data: line, size: int64(len(line))}, nil
		}
		if l.to-l.from > l.max {
			if !l.cut {
				return l.skip()
			}
			line := l.buf[l.from : l.from+l.max]
			l.from += l.max
			return textLine{data: line, size: int64(len(line))}, nil
		}
		searched = l.to
		if l.err != nil {
			if l.from == l.to {
				return textLine{}, l.err
			}
			line := l.buf[l.from:l.to]
			l.from = l.to
			return textLine{data: line, size: int64(len(line))}, nil
		}
		searched -= l.fill()
	}
}

// fill reads once and returns by how much the unread part moved to the front.
func (l *lineReader) fill() (moved int) {
	if l.from > 0 && (l.from == l.to || len(l.buf)-l.to < readChunk/2) {
		moved = l.from
		copy(l.buf, l.buf[l.from:l.to])
		l.from, l.to = 0, l.to-l.from
	}
	if len(l.buf)-l.to < readChunk/2 {
		grown := make([]byte, max(readChunk, 2*len(l.buf)))
		copy(grown, l.buf[:l.to])
		l.buf = grown
	}
	n, err := l.r.Read(l.buf[l.to:])
	l.to += n
	l.err = err
	return moved
}

// skip drops the rest of a line that is too long, in constant memory.
func (l *lineReader) skip() (textLine, error) {
	size := int64(l.to - l.from)
	head := bytes.Clone(l.buf[l.from:min(l.to, l.from+oversizeShown)])
	l.buf, l.from, l.to = make([]byte, readChunk), 0, 0
	for l.err == nil {
		n, err := l.r.Read(l.buf)
		l.err = err
		if i := bytes.IndexByte(l.buf[:n], '\n'); i >= 0 {
			size += int64(i)
			l.from, l.to = i+1, n
			break
		}
		size += int64(n)
	}
	return textLine{data: head, over: true, size: size}, nil
}
