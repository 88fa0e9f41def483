package wire

import (
	"encoding/binary"
	"encoding/json"
	"math/bits"
)

// maxDepth is how deep a value may be nested that is read here. A deeper one is left to encoding/json.
const maxDepth = 512

// validJSON reports whether b is one JSON value, as json.Valid does, several times as fast: a payload or a result
// passes through and is read for this alone. Neither looks at the encoding of the characters.
func validJSON(b []byte) bool {
	end, deep := skipValue(b, 0)
	if deep {
		return json.Valid(b)
	}
	return end >= 0 && skipSpace(b, end) == len(b)
}

// skipValue returns the index just past the JSON value that begins at i, after white space; -1: there is none. deep: it
// is nested too deeply to be read here.
func skipValue(b []byte, i int) (end int, deep bool) {
	var objects [maxDepth/64 + 1]uint64 // a bit for each level: it is an object
	depth := 0
	for {
		i = skipSpace(b, i)
		if i >= len(b) {
			return -1, false
		}
		switch c := b[i]; c {
		case '{', '[':
			if depth++; depth > maxDepth {
				return -1, true
			}
			bit := uint64(1) << (depth % 64)
			objects[depth/64] &^= bit
			if c == '{' {
				objects[depth/64] |= bit
			}
			i = skipSpace(b, i+1)
			if i >= len(b) || b[i] != c+2 { // '}' is '{'+2, and ']' is '['+2
				if c == '{' {
					i = skipKey(b, i)
				}
				if i < 0 {
					return -1, false
				}
				continue
			}
			depth--
			i++
		default:
			i = skipScalar(b, i)
		}
		// A value ends at i; so may those around it.
		for more := false; !more; {
			if i < 0 || depth == 0 {
				return i, false
			}
			i, more = skipSeparator(b, i, objects[depth/64]&(1<<(depth%64)) != 0)
			if !more {
				depth--
			}
		}
	}
}

// skipSeparator reads what follows a value in an object or a list: a comma, with the next key in an object, or the end
// (more is false).
func skipSeparator(b []byte, i int, object bool) (end int, more bool) {
	i = skipSpace(b, i)
	switch {
	case i >= len(b):
		return -1, false
	case b[i] == ',' && object:
		i = skipKey(b, skipSpace(b, i+1))
		return i, i >= 0
	case b[i] == ',':
		return i + 1, true
	case b[i] == '}' && object, b[i] == ']' && !object:
		return i + 1, false
	}
	return -1, false
}

// skipKey reads a key and its colon.
func skipKey(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return -1
	}
	if i = skipString(b, i); i < 0 {
		return -1
	}
	i = skipSpace(b, i)
	if i >= len(b) || b[i] != ':' {
		return -1
	}
	return i + 1
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipScalar reads a string, a number, true, false or null, which begins at i.
func skipScalar(b []byte, i int) int {
	var word string
	switch b[i] {
	case '"':
		return skipString(b, i)
	case 't':
		word = "true"
	case 'f':
		word = "false"
	case 'n':
		word = "null"
	default:
		return skipNumber(b, i)
	}
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}

func skipNumber(b []byte, i int) int {
	if i < len(b) && b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if i = skipDigits(b, i); i < 0 {
		return -1
	}
	if i < len(b) && b[i] == '.' {
		if i = skipDigits(b, i+1); i < 0 {
			return -1
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return skipDigits(b, i)
	}
	return i
}

// skipDigits reads one digit or more.
func skipDigits(b []byte, i int) int {
	start := i
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

// skipString reads the string that opens at i.
func skipString(b []byte, i int) int {
	for i++; ; {
		i = skipPlain(b, i)
		if i >= len(b) || b[i] < ' ' {
			return -1
		}
		if b[i] == '"' {
			return i + 1
		}
		if i++; i >= len(b) { // after a backslash
			return -1
		}
		switch b[i] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			i++
		case 'u':
			if len(b)-i < 5 || !isHex(b[i+1]) || !isHex(b[i+2]) || !isHex(b[i+3]) || !isHex(b[i+4]) {
				return -1
			}
			i += 5
		default:
			return -1
		}
	}
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// skipPlain returns the index of the next quote, backslash or control character, or len(b). It looks at eight bytes at
// a time: of each, the sum's high bit tells whether it is one of these. A carry can make only a later byte look like
// one, and the first counts.
func skipPlain(b []byte, i int) int {
	const (
		ones  = 0x0101010101010101
		highs = 0x80 * ones
	)
	for ; len(b)-i >= 8; i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^('"'*ones), x^('\\'*ones)
		special := (quote-ones)&^quote | (slash-ones)&^slash | (x-' '*ones)&^x
		if special &= highs; special != 0 {
			return i + bits.TrailingZeros64(special)/8
		}
	}
	for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}
