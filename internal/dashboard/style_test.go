package dashboard

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// schemes are the colours of the style sheet, light and dark.
func schemes(t *testing.T) map[string]map[string]string {
	t.Helper()
	css, err := embedded.ReadFile("assets/style.css")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile(`:root \{([^}]*)\}`).FindAllStringSubmatch(string(css), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d colour schemes, want light and dark", len(blocks))
	}
	found := map[string]map[string]string{"light": {}, "dark": {}}
	for i, scheme := range []string{"light", "dark"} {
		for _, p := range regexp.MustCompile(`--([\w-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(blocks[i][1], -1) {
			found[scheme][p[1]] = p[2]
		}
	}
	return found
}

func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(colour, "#"), 16, 32)
	if err != nil || len(colour) != 7 {
		t.Fatalf("the colour %q", colour)
	}
	linear := func(c uint64) float64 {
		v := float64(c&255) / 255
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(n>>16) + 0.7152*linear(n>>8) + 0.0722*linear(n)
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	la, lb := luminance(t, a), luminance(t, b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

// WCAG 2 asks for 4.5 between text and what it stands on, and for 3 between the parts of a picture.
func TestContrast(t *testing.T) {
	text, picture := [][2]string{
		{"text", "page"}, {"muted", "page"}, {"link", "page"}, {"text", "card"}, {"muted", "card"}, {"link", "card"}, {"bad", "card"}, {"text", "sunken"},
		{"on-tone", "link"}, {"page", "text"},
	}, [][2]string{{"first", "card"}, {"second", "card"}, {"second", "first-area"}, {"third", "card"}, {"third", "first-area"}, {"first", "line"}}
	for _, tone := range []Tone{Good, Quiet, Warn, Bad} {
		c := string(tone)
		text = append(text, [][2]string{{c, c + "-card"}, {"text", c + "-card"}, {"muted", c + "-card"}, {"link", c + "-card"}, {c, "card"}}...)
		picture = append(picture, [][2]string{{"on-tone", c}}...)
		if c != "good" {
			picture = append(picture, [2]string{c, "good-card"})
		}
	}
	if got := contrast(t, "#000000", "#ffffff"); got != 21 {
		t.Fatalf("the contrast of black and white is %v, want 21", got)
	}
	for scheme, colours := range schemes(t) {
		check := func(pairs [][2]string, least float64) {
			for _, p := range pairs {
				front, back := colours[p[0]], colours[p[1]]
				if front == "" || back == "" {
					t.Fatalf("%s: the style sheet has no colour %s or %s", scheme, p[0], p[1])
				}
				if got := contrast(t, front, back); got < least {
					t.Errorf("%s: %s on %s has a contrast of %.2f, want %v", scheme, p[0], p[1], got, least)
				}
			}
		}
		check(text, 4.5)
		check(picture, 3)
	}
}

// A dark scheme that lacks a colour would show the light one's.
func TestSchemesHaveTheSameColours(t *testing.T) {
	s := schemes(t)
	for name := range s["light"] {
		if s["dark"][name] == "" {
			t.Errorf("the dark scheme has no %s", name)
		}
	}
	if len(s["light"]) != len(s["dark"]) {
		t.Errorf("%d and %d colours", len(s["light"]), len(s["dark"]))
	}
}

func TestStyleFetchesNothingAndKnowsItsClasses(t *testing.T) {
	css, err := embedded.ReadFile("assets/style.css")
	if err != nil {
		t.Fatal(err)
	}
	for _, foreign := range []string{"url(", "@import", "@font-face", "expression("} {
		if strings.Contains(string(css), foreign) {
			t.Errorf("the style sheet has %s", foreign)
		}
	}
	if open, shut := strings.Count(string(css), "{"), strings.Count(string(css), "}"); open != shut {
		t.Errorf("%d { and %d }", open, shut)
	}
	// Every class that it styles is written by a template or by the script, and every variable is declared.
	var sources strings.Builder
	files, err := embedded.ReadDir("assets")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".css") {
			body, err := embedded.ReadFile("assets/" + f.Name())
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(body)
		}
	}
	written := regexp.MustCompile(`[a-z][\w-]*`).FindAllString(sources.String(), -1)
	words := map[string]bool{"tone-good": true, "first": true, "second": true, "third": true}
	for _, w := range written {
		words[w] = true
	}
	for _, tone := range []Tone{Good, Quiet, Warn, Bad} {
		words["tone-"+string(tone)], words["sign-"+string(tone)] = true, true
	}
	for _, c := range regexp.MustCompile(`[^\d\w]\.([a-z][\w-]*)`).FindAllStringSubmatch(string(css), -1) {
		if !words[c[1]] {
			t.Errorf("nothing has the class %s", c[1])
		}
	}
	for _, v := range regexp.MustCompile(`var\((--[\w-]+)\)`).FindAllStringSubmatch(string(css), -1) {
		if !strings.Contains(string(css), v[1]+":") {
			t.Errorf("%s is never declared", v[1])
		}
	}
}
