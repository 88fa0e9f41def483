package wire

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func readAll(t *testing.T, r *Reader) []string {
	t.Helper()
	var got []string
	for {
		line, err := r.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatalf("read a line: %v", err)
			}
			return got
		}
		s := string(line.Data)
		if line.TooLong {
			s = s[:3] // how much of it is kept depends on the reads
		}
		if len(s) > 40 {
			s = fmt.Sprintf("%s…%d", s[:3], len(s))
		}
		if line.TooLong {
			s += fmt.Sprintf(" over %d", line.Size)
		}
		got = append(got, s)
	}
}

func TestReader(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	for _, tc := range []struct {
		name, in string
		max      int
		cut      bool
		want     []string
	}{
		{"empty", "", 10, false, nil},
		{"lines", "a\n\nbc\r\n", 10, false, []string{"a", "", "bc\r"}},
		{"no last newline", "a\nbc", 10, false, []string{"a", "bc"}},
		{"exactly max", strings.Repeat("y", 10) + "\nz\n", 10, false, []string{"yyyyyyyyyy", "z"}},
		{"one too long", strings.Repeat("y", 11) + "\nz\n", 10, false, []string{"yyy over 11", "z"}},
		{"far too long", long + "\nz\n", 10, false, []string{"xxx over 200000", "z"}},
		{"far too long and last", "a\n" + long, 10, false, []string{"a", "xxx over 200000"}},
		{"long and allowed", long + "\nz\n", 1 << 20, false, []string{"xxx…200000", "z"}},
		{"cut", "aaaabbbbcc\nd\n", 4, true, []string{"aaaa", "bbbb", "cc", "d"}},
		{"cut at the newline", "aaaabbbb\nd", 4, true, []string{"aaaa", "bbbb", "d"}},
	} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole":       func(r io.Reader) io.Reader { return r },
			"half":        iotest.HalfReader,
			"data at EOF": iotest.DataErrReader,
		} {
			r := &Reader{src: wrap(strings.NewReader(tc.in)), max: tc.max, cut: tc.cut}
			if got := readAll(t, r); fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Errorf("%s, %s:\n got %q\nwant %q", tc.name, name, got, tc.want)
			}
		}
	}
}

func TestReaderGivesBigBuffersBack(t *testing.T) {
	in := strings.Repeat("x", 4<<20) + "\nsmall\n"
	r := &Reader{src: strings.NewReader(in), max: 8 << 20}
	if got := readAll(t, r); len(got) != 2 || cap(r.buf) > keptBuffer {
		t.Errorf("%d lines, %d bytes kept; want 2 lines and at most %d bytes", len(got), cap(r.buf), keptBuffer)
	}
}

func FuzzReader(f *testing.F) {
	f.Add("a\nbb\nccc", 2, true)
	f.Add("a\nbb\nccc", 2, false)
	f.Fuzz(func(t *testing.T, in string, limit int, cut bool) {
		if limit < 1 || limit > 1000 {
			return
		}
		r := &Reader{src: iotest.OneByteReader(strings.NewReader(in)), max: limit, cut: cut}
		var joined strings.Builder
		total, dropped := int64(0), false
		for {
			line, err := r.Next()
			if err != nil {
				break
			}
			if cut && len(line.Data) > limit || line.TooLong != (line.Size > int64(limit)) {
				t.Fatalf("line %q, TooLong %v, Size %d with limit %d", line.Data, line.TooLong, line.Size, limit)
			}
			joined.Write(line.Data)
			total += line.Size
			dropped = dropped || line.TooLong
		}
		if want := strings.ReplaceAll(in, "\n", ""); total != int64(len(want)) || !dropped && joined.String() != want {
			t.Fatalf("%d bytes in, %d out: %q; want the same", len(want), total, joined.String())
		}
	})
}
