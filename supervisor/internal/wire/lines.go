package wire

import (
	"bytes"
	"io"
)

const (
	// MinLine is the least bound of a line's length that the protocol works with, in bytes.
	MinLine = 1 << 10
	// MaxLogLine is the length in bytes at which output that is not protocol is cut into lines.
	MaxLogLine = 16 << 10

	readChunk    = 64 << 10
	keptBuffer   = 2 << 20  // a larger buffer is given back after its line; lines of 1 MB still fit
	tooLongShown = 64 << 10 // how much of a too long line is kept to find its task
)

// Reader splits a stream into lines of any length up to a bound. It is not safe for concurrent use.
type Reader struct {
	src  io.Reader
	max  int
	cut  bool   // past max the line goes on in the next one; else the rest is skipped
	buf  []byte // buf[from:to] is read and not yet returned
	from int
	to   int
	err  error
}

// Line is one line without its newline. Data is valid until the next call of Next.
type Line struct {
	Data    []byte
	TooLong bool  // longer than the bound: Data is only its beginning
	Size    int64 // its whole length in bytes
}

// NewReader returns a reader of lines of at most limit bytes. Of a longer line only the beginning is returned, as
// TooLong.
func NewReader(src io.Reader, limit int) *Reader { return &Reader{src: src, max: limit} }

// NewCuttingReader returns a reader that cuts a line of more than limit bytes into several.
func NewCuttingReader(src io.Reader, limit int) *Reader {
	return &Reader{src: src, max: limit, cut: true}
}

// Next returns the next line. It blocks until the stream has one. A last line without a newline is returned before the
// stream's error, which is io.EOF at its end.
func (r *Reader) Next() (Line, error) {
	if r.from == r.to && cap(r.buf) > keptBuffer {
		r.buf, r.from, r.to = nil, 0, 0
	}
	searched := r.from
	for {
		if i := bytes.IndexByte(r.buf[searched:r.to], '\n'); i >= 0 {
			line := r.buf[r.from : searched+i]
			r.from = searched + i + 1
			if len(line) > r.max && !r.cut {
				return Line{Data: line[:min(len(line), tooLongShown)], TooLong: true, Size: int64(len(line))}, nil
			}
			if len(line) > r.max {
				r.from -= len(line) - r.max + 1 // the rest, with its newline, comes next
				line = line[:r.max]
			}
			return Line{Data: line, Size: int64(len(line))}, nil
		}
		if r.to-r.from > r.max {
			if !r.cut {
				return r.skip()
			}
			line := r.buf[r.from : r.from+r.max]
			r.from += r.max
			return Line{Data: line, Size: int64(len(line))}, nil
		}
		searched = r.to
		if r.err != nil {
			if r.from == r.to {
				return Line{}, r.err
			}
			line := r.buf[r.from:r.to]
			r.from = r.to
			return Line{Data: line, Size: int64(len(line))}, nil
		}
		searched -= r.fill()
	}
}

// fill reads once and returns by how much the unread part moved to the front.
func (r *Reader) fill() (moved int) {
	if r.from > 0 && (r.from == r.to || len(r.buf)-r.to < readChunk/2) {
		moved = r.from
		copy(r.buf, r.buf[r.from:r.to])
		r.from, r.to = 0, r.to-r.from
	}
	if len(r.buf)-r.to < readChunk/2 {
		grown := make([]byte, max(readChunk, 2*len(r.buf)))
		copy(grown, r.buf[:r.to])
		r.buf = grown
	}
	n, err := r.src.Read(r.buf[r.to:])
	r.to += n
	r.err = err
	return moved
}

// skip drops the rest of a line that is too long, in constant memory.
func (r *Reader) skip() (Line, error) {
	size := int64(r.to - r.from)
	head := bytes.Clone(r.buf[r.from:min(r.to, r.from+tooLongShown)])
	r.buf, r.from, r.to = make([]byte, readChunk), 0, 0
	for r.err == nil {
		n, err := r.src.Read(r.buf)
		r.err = err
		if i := bytes.IndexByte(r.buf[:n], '\n'); i >= 0 {
			size += int64(i)
			r.from, r.to = i+1, n
			break
		}
		size += int64(n)
	}
	return Line{Data: head, TooLong: true, Size: size}, nil
}
