package dashboard

import (
	"fmt"
	"hash/fnv"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// nothing stands where there is no value.
const nothing = "–"

// grouped writes a count with its thousands apart: 12,345.
func grouped[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	sign := ""
	if digits[0] == '-' {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	b.WriteString(sign)
	for i, r := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// plural writes a count with its noun: 1 task, 12,345 tasks.
func plural[N int | int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}

// duration writes d as people say it, in at most two units: 120 ms, 1.2 s, 3 m 20 s, 2 d. A negative one is unknown.
func duration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return nothing
	case d == 0:
		return "0 s"
	case d < time.Millisecond:
		return "< 1 ms"
	case d < 999500*time.Microsecond:
		return strconv.FormatInt(d.Round(time.Millisecond).Milliseconds(), 10) + " ms"
	case d < 9950*time.Millisecond:
		return trimZero(strconv.FormatFloat(d.Seconds(), 'f', 1, 64)) + " s"
	}
	d = d.Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return two(int64(d/time.Minute), "m", int64(d%time.Minute/time.Second), "s")
	case d < day:
		return two(int64(d/time.Hour), "h", int64(d%time.Hour/time.Minute), "m")
	}
	return two(int64(d/day), "d", int64(d%day/time.Hour), "h")
}

func two(n int64, unit string, rest int64, smaller string) string {
	if rest == 0 {
		return grouped(n) + " " + unit
	}
	return fmt.Sprintf("%s %s %d %s", grouped(n), unit, rest, smaller)
}

func trimZero(s string) string { return strings.TrimSuffix(s, ".0") }

// span is duration for a number of seconds.
func span(seconds float64) string {
	if math.IsNaN(seconds) {
		return nothing
	}
	if seconds > math.MaxInt64/float64(time.Second) {
		return duration(math.MaxInt64)
	}
	return duration(time.Duration(seconds * float64(time.Second)))
}

// size writes a number of bytes with the largest binary unit that leaves at least one: 1.2 GiB. A negative one is
// unknown.
func size(n int64) string {
	if n < 0 {
		return nothing
	}
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, unit := float64(n)/1024, 0
	for units := "KMGTPE"; value >= 1023.95 && unit < len(units)-1; unit++ {
		value /= 1024
	}
	digits := 1
	if value >= 99.95 {
		digits = 0
	}
	return trimZero(strconv.FormatFloat(value, 'f', digits, 64)) + " " + "KMGTPE"[unit:unit+1] + "iB"
}

// percent writes a share, 1 is 100 %. What is not nothing is never shown as nothing; a negative share is unknown.
func percent(share float64) string {
	switch {
	case share < 0 || math.IsNaN(share):
		return nothing
	case share > 0 && share < 0.01:
		return "< 1 %"
	}
	return grouped(int64(math.Round(share*100))) + " %"
}

// rate writes a number of things a second, or a minute where a second would be a small fraction.
func rate(perSecond float64) string {
	switch {
	case math.IsNaN(perSecond):
		return nothing
	case perSecond <= 0:
		return "0/s"
	case perSecond < 0.095:
		return amount(perSecond*60) + "/min"
	}
	return amount(perSecond) + "/s"
}

// amount writes a number that need not be whole with two digits or three: 0.3, 4.5, 120, 12,345.
func amount(n float64) string {
	switch {
	case math.IsNaN(n):
		return nothing
	case n == 0:
		return "0"
	case n < 0.05:
		return "< 0.1"
	case n < 99.5:
		return trimZero(strconv.FormatFloat(n, 'f', 1, 64))
	case n >= 1e15:
		return strconv.FormatFloat(n, 'g', 3, 64)
	}
	return grouped(int64(math.Round(n)))
}

// The lengths, in characters, at which text from outside is cut.
const (
	nameLength  = 120
	titleLength = 400
	lineLength  = 1000
	textLength  = 64 << 10
)

// name makes an id, a name or a short message from outside fit to be shown in a line.
func name(s string) string { return cut(visible(s, false), nameLength) }

// long is name for what is shown when one points at it.
func long(s string) string { return cut(visible(s, false), titleLength) }

// line is name for a message, which may be a sentence.
func line(s string) string { return cut(visible(s, false), lineLength) }

// text makes text of many lines from outside fit to be shown. Its end is the interesting part of a traceback.
func text(s string) string {
	s = visible(s, true)
	if utf8.RuneCountInString(s) <= textLength {
		return s
	}
	runes := []rune(s)
	return "…\n" + string(runes[len(runes)-textLength:])
}

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	n := 0
	for i := range s {
		if n == limit-1 {
			if utf8.RuneCountInString(s[i:]) > 1 {
				return s[:i] + "…"
			}
			break
		}
		n++
	}
	return s
}

// visible writes the characters that would not be seen, or would turn the order of others around, as escapes.
func visible(s string, lines bool) string {
	s = stripColours(s)
	var b strings.Builder
	b.Grow(len(s))
	for _, r := range s {
		switch {
		case lines && (r == '\n' || r == '\t'):
			b.WriteRune(r)
		case lines && r == '\r': // of a progress bar or of Windows
		case unicode.IsGraphic(r) && !unicode.Is(unicode.Cf, r) && (r == ' ' || !unicode.IsSpace(r)):
			b.WriteRune(r)
		case r == '\u00a0' || r == '\u202f':
			b.WriteRune(r)
		case r == '\u200d' || r == '\u200c': // join emoji and letters of some scripts
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// stripColours leaves out what a program writes to colour a terminal: ESC [ … m.
func stripColours(s string) string {
	if !strings.Contains(s, "\x1b[") {
		return s
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "\x1b[")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		end := strings.IndexFunc(after, func(r rune) bool { return (r < '0' || r > '9') && r != ';' })
		if end >= 0 && after[end] == 'm' {
			s = after[end+1:]
			continue
		}
		b.WriteString(`\x1b[`)
		s = after
	}
}

// key names an element of the page across updates, however long or strange what it shows is called.
func key(parts ...string) string {
	h := fnv.New64a()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return strconv.FormatUint(h.Sum64(), 36)
}

// moment is a time as the page shows it.
type moment struct {
	Machine string        // for programs
	Full    string        // with its date
	Clock   string        // without
	Age     time.Duration // negative when it is yet to come
}

// at describes t as seen at now; the zero time gives nil.
func at(now, t time.Time) *moment {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &moment{
		Machine: t.Format(time.RFC3339), Full: t.Format("2006-01-02 15:04:05 UTC"), Clock: t.Format("15:04:05 UTC"),
		Age: now.Sub(t),
	}
}

// Ago says how long ago it was.
func (m *moment) Ago() string {
	if m.Age < time.Second {
		return "just now"
	}
	return duration(m.Age.Truncate(time.Second)) + " ago"
}

// For says how long it has been so.
func (m *moment) For() string { return duration(max(0, m.Age.Truncate(time.Second))) }

// Ahead says how long it is until then.
func (m *moment) Ahead() string {
	if m.Age > -time.Second {
		return "now"
	}
	return "in " + duration((-m.Age).Truncate(time.Second))
}
