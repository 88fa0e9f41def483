package dashboard

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-1: "–", 0: "0 s", time.Microsecond: "< 1 ms", time.Millisecond: "1 ms", 120 * time.Millisecond: "120 ms",
		999400 * time.Microsecond: "999 ms", 999600 * time.Microsecond: "1 s", 1200 * time.Millisecond: "1.2 s", 9940 * time.Millisecond: "9.9 s",
		9960 * time.Millisecond: "10 s", 59400 * time.Millisecond: "59 s", 59600 * time.Millisecond: "1 m", 200 * time.Second: "3 m 20 s",
		time.Hour: "1 h", 5*time.Hour + 12*time.Minute: "5 h 12 m", 48 * time.Hour: "2 d", 50 * time.Hour: "2 d 2 h", math.MaxInt64: "106,751 d 23 h",
	} {
		if got := duration(d); got != want {
			t.Errorf("duration(%v) = %q, want %q", d, got, want)
		}
	}
	if got := span(math.Inf(1)); got != "106,751 d 23 h" {
		t.Errorf("an endless span is %q", got)
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range [][2]string{
		{grouped(0), "0"}, {grouped(999), "999"}, {grouped(-1000), "-1,000"}, {grouped(12345), "12,345"},
		{grouped(int64(math.MaxInt64)), "9,223,372,036,854,775,807"}, {plural(1, "task", "tasks"), "1 task"},
		{plural(12345, "task", "tasks"), "12,345 tasks"}, {size(-1), "–"}, {size(0), "0 B"}, {size(1023), "1023 B"},
		{size(1024), "1 KiB"}, {size(1312 << 20), "1.3 GiB"}, {size(1<<20 - 1), "1 MiB"}, {size(500 << 20), "500 MiB"},
		{size(math.MaxInt64), "8 EiB"}, {percent(-1), "–"}, {percent(math.NaN()), "–"}, {percent(0), "0 %"}, {percent(0.001), "< 1 %"},
		{percent(0.97), "97 %"}, {percent(3.5), "350 %"}, {rate(0), "0/s"}, {rate(0.001), "0.1/min"}, {rate(0.05), "3/min"},
		{rate(4.24), "4.2/s"}, {rate(12345), "12,345/s"}, {amount(0.3), "0.3"}, {amount(0.01), "< 0.1"}, {amount(120.4), "120"},
		{amount(math.MaxFloat64), "1.8e+308"},
	} {
		if c[0] != c[1] {
			t.Errorf("got %q, want %q", c[0], c[1])
		}
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "日本語 café 👩‍🔬": "日本語 café 👩‍🔬", "a\u202egnp.exe": `a\u202egnp.exe`, "a\nb\r\tc": `a\nb\r\tc`, "\x1b[31mred\x1b[0m": "red",
		"\x1b[2J": `\x1b[2J`, "nul\x00": `nul\x00`, "zero\u200bwidth": `zero\u200bwidth`, "bad\xff": "bad\ufffd", "\u2066x": `\u2066x`, "line\u2028": `line\u2028`,
	} {
		if got := name(in); got != want {
			t.Errorf("name(%q) = %q, want %q", in, got, want)
		}
	}
	if got := text("a\r\n\tb\x07\n"); got != "a\n\tb\\a\n" {
		t.Errorf("text keeps lines: %q", got)
	}
	if got := name(strings.Repeat("é", 10_000)); utf8.RuneCountInString(got) != nameLength || !strings.HasSuffix(got, "é…") {
		t.Errorf("a long name is cut to %d characters", utf8.RuneCountInString(got))
	}
	if exact := strings.Repeat("é", nameLength); name(exact) != exact {
		t.Error("a name that just fits is cut")
	}
	if got := text(strings.Repeat("x", textLength) + "the end"); !strings.HasPrefix(got, "…\n") || !strings.HasSuffix(got, "the end") {
		t.Error("of a long text the end is lost")
	}
}

func FuzzVisible(f *testing.F) {
	f.Add("a\u202e\x1b[31m\x00\xff", true)
	f.Fuzz(func(t *testing.T, s string, lines bool) {
		got := visible(s, lines)
		if !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\x1b\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2028\u2029\ufeff\u200b\u200e\u200f") {
			t.Errorf("visible(%q) = %q", s, got)
		}
		if !lines && strings.ContainsAny(got, "\r\n\t") {
			t.Errorf("visible(%q) has more than one line", s)
		}
	})
}

func TestKey(t *testing.T) {
	if key("ab", "c") == key("a", "bc") || key("a") == key("a", "") || len(key(strings.Repeat("long", 2500))) > 13 {
		t.Error("keys collide, or are long")
	}
}

func TestMoment(t *testing.T) {
	if at(fixedNow, time.Time{}) != nil {
		t.Error("no time is a moment")
	}
	m := at(fixedNow, fixedNow.Add(-200*time.Second).In(time.FixedZone("", 3600)))
	if m.Machine != "2026-11-22T12:31:36Z" || m.Clock != "12:31:36 UTC" || m.Ago() != "3 m 20 s ago" || m.For() != "3 m 20 s" || m.Ahead() != "now" {
		t.Errorf("moment %+v", m)
	}
	// The clock of another machine may be ahead.
	if m := at(fixedNow, fixedNow.Add(42*time.Second)); m.Ago() != "just now" || m.For() != "0 s" || m.Ahead() != "in 42 s" {
		t.Errorf("a moment to come: %q %q %q", m.Ago(), m.For(), m.Ahead())
	}
}
