package dashboard

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

func newTestRenderer(t *testing.T) *renderer {
	t.Helper()
	r, err := newRenderer()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func pageOf(t *testing.T, v *View) string {
	t.Helper()
	var b bytes.Buffer
	if err := newTestRenderer(t).page(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func parse(t *testing.T, page string) *html.Node {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// elements are all elements of one of these kinds, of every kind when none is named.
func elements(n *html.Node, kinds ...string) []*html.Node {
	var found []*html.Node
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && (len(kinds) == 0 || slices.Contains(kinds, d.Data)) {
			found = append(found, d)
		}
	}
	return found
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}

func textOf(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.TrimSpace(b.String())
}

func byID(t *testing.T, doc *html.Node, id string) *html.Node {
	t.Helper()
	for _, n := range elements(doc) {
		if attr(n, "id") == id {
			return n
		}
	}
	t.Fatalf("nothing on the page has the id %q", id)
	return nil
}

// eachPage runs a test for the page of every fixture.
func eachPage(t *testing.T, test func(t *testing.T, v *View, page string, doc *html.Node)) {
	for _, name := range fixtureNames() {
		t.Run(name, func(t *testing.T) {
			v := fixtures()[name]
			page := pageOf(t, v)
			test(t, v, page, parse(t, page))
		})
	}
}

// What the page shows first and what is sent to it later cannot differ.
func TestPageHoldsTheVerySections(t *testing.T) {
	eachPage(t, func(t *testing.T, v *View, page string, _ *html.Node) {
		sections, err := newTestRenderer(t).sections(v)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range sections {
			if s.ID != sectionIDs[i] {
				t.Errorf("section %d is %s, want %s", i, s.ID, sectionIDs[i])
			}
			if !strings.Contains(page, s.HTML) {
				t.Errorf("section %s is not in the page as it is sent later:\n%s", s.ID, s.HTML)
			}
			// The script takes the first element of what it gets.
			nodes, err := html.ParseFragment(strings.NewReader(s.HTML), &html.Node{Type: html.ElementNode, Data: "body", DataAtom: atom.Body})
			if err != nil || len(nodes) != 1 || attr(nodes[0], "id") != s.ID {
				t.Errorf("section %s is not one element with its id (%v):\n%s", s.ID, err, s.HTML)
			}
		}
	})
}

// What a template writes is what a browser sees: nothing is closed late, moved or dropped.
func TestPageIsWellFormed(t *testing.T) {
	void := []string{"meta", "link", "input", "circle", "path"}
	eachPage(t, func(t *testing.T, _ *View, page string, _ *html.Node) {
		var open []string
		z := html.NewTokenizer(strings.NewReader(page))
		for {
			switch z.Next() {
			case html.ErrorToken:
				if len(open) > 0 {
					t.Errorf("never closed: %q", open)
				}
				return
			case html.StartTagToken:
				if name, _ := z.TagName(); !slices.Contains(void, string(name)) {
					open = append(open, string(name))
				}
			case html.EndTagToken:
				name, _ := z.TagName()
				if len(open) == 0 || open[len(open)-1] != string(name) {
					t.Fatalf("</%s> closes %q", name, open)
				}
				open = open[:len(open)-1]
			}
		}
	})
}

func TestPageHasNothingThatThePolicyForbids(t *testing.T) {
	eachPage(t, func(t *testing.T, _ *View, _ string, doc *html.Node) {
		for _, n := range elements(doc) {
			for _, a := range n.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
					t.Errorf("<%s> has the attribute %s", n.Data, a.Key)
				}
				if slices.Contains([]string{"href", "src", "action"}, a.Key) && !strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "#") {
					t.Errorf("<%s %s=%q> leads away from this server", n.Data, a.Key, a.Val)
				}
			}
		}
		for _, n := range elements(doc, "script") {
			if textOf(n) != "" || !strings.HasPrefix(attr(n, "src"), "/assets/app.js?v=") {
				t.Errorf("an inline script, or one from elsewhere: %q %q", attr(n, "src"), textOf(n))
			}
		}
		if found := elements(doc, "style", "img", "iframe", "object", "embed", "base"); len(found) > 0 {
			t.Errorf("the page has a <%s>", found[0].Data)
		}
	})
}

func TestHostileTextStaysText(t *testing.T) {
	page := pageOf(t, hostileView())
	shown := regexp.MustCompile(`<input type="hidden" name="\w+" value="[^"]*">`).ReplaceAllString(page, "") // must be sent back as it is
	for _, live := range []string{"<img", "<script>", "\u202e", "\x1b", "\x00"} {
		if strings.Contains(shown, live) {
			t.Errorf("%q is on the page", live)
		}
	}
	for _, id := range sectionIDs {
		if shown := textOf(byID(t, parse(t, page), id)); id != "load" && !strings.Contains(shown, "<img src=x onerror=alert(1)>") {
			t.Errorf("the section %s does not show what it was given, in words", id)
		}
	}
	doc := parse(t, page)
	if !slices.ContainsFunc(elements(doc, "input"), func(n *html.Node) bool {
		return attr(n, "name") == "queue" && strings.HasPrefix(attr(n, "value"), "<img") && strings.Contains(attr(n, "value"), "\u202e")
	}) {
		t.Error("no form names the hostile queue")
	}
	if len(page) > 400_000 {
		t.Errorf("the page has %d bytes", len(page))
	}
}

func TestPageForAStranger(t *testing.T) {
	page := pageOf(t, strangerView())
	doc := parse(t, page)
	for _, n := range elements(doc, "form", "input") {
		if attr(n, "method") != "dialog" {
			t.Errorf("a <%s> to send", n.Data)
		}
	}
	for _, secret := range []string{"MemoryError", "ValueError", "Traceback", "Payload", "standard error", "token"} {
		if strings.Contains(page, secret) {
			t.Errorf("the page has %q", secret)
		}
	}
	if !strings.Contains(textOf(doc), "Shown only on this machine (loopback, not through a proxy) and to the users of health.web_config.") {
		t.Error("the page does not say why something is missing")
	}
	if strings.Contains(pageOf(t, healthyView()), "Shown only on this machine") {
		t.Error("the page explains what is hidden to whom nothing is hidden from")
	}
}

// Beside each running task is a button that shows where it is, for those who may ask; an idle one is marked for everybody.
func TestRunningTasksCanBeAsked(t *testing.T) {
	v := healthyView()
	v.Process.CanAsk, v.Process.Stack = true, "thread MainThread\n  File <main.py>"
	v.Active.Tasks[0].Idle = 6 * time.Minute
	page := pageOf(t, v)
	if n := strings.Count(page, `action="/actions/stack"`); n != len(v.Active.Tasks) {
		t.Errorf("%d buttons show where a task is, want one for each of %d", n, len(v.Active.Tasks))
	}
	for _, text := range []string{"No CPU time and no progress for 6 m", "Where it hung", "File &lt;main.py&gt;"} {
		if !strings.Contains(page, text) {
			t.Errorf("the page does not have %q", text)
		}
	}
	v.Trusted, v.Token, v.Process.CanAsk = false, "", false
	if page := pageOf(t, v); strings.Contains(page, "/actions/stack") || !strings.Contains(page, "No CPU time and no progress") {
		t.Error("a stranger gets the button, or is not told that a task is idle")
	}
}

// A template cannot give away what the view does not have, but it must not show a button either that cannot work.
func TestButtonsOnlyForWhoMayAct(t *testing.T) {
	v := degradedView()
	actions := map[string]int{}
	for _, n := range elements(parse(t, pageOf(t, v)), "form") {
		actions[attr(n, "action")]++
		if attr(n, "method") == "dialog" {
			continue
		}
		tokens := 0
		for _, input := range elements(n, "input") {
			if attr(input, "name") == "token" && attr(input, "value") == v.Token {
				tokens++
			}
		}
		if tokens != 1 {
			t.Errorf("the form of %s has %d tokens", attr(n, "action"), tokens)
		}
		if ask := attr(n, "data-confirm") != ""; ask != slices.Contains([]string{"/actions/restart", "/actions/delete", "/actions/pause"}, attr(n, "action")) {
			t.Errorf("%s asks first: %v", attr(n, "action"), ask)
		}
	}
	want := map[string]int{"/actions/restart": 1, "/actions/pause": 1, "/actions/resume": 1, "/actions/retry": 3, "/actions/delete": 3, "": 2}
	if fmt.Sprint(actions) != fmt.Sprint(want) {
		t.Errorf("forms %v, want %v", actions, want)
	}
	v.Process.CanAct = false
	if strings.Contains(pageOf(t, v), "/actions/restart") {
		t.Error("a restart button where none is to be")
	}
}

func TestPageCanBeHeardAndWalked(t *testing.T) {
	eachPage(t, func(t *testing.T, v *View, _ string, doc *html.Node) {
		ids := map[string]bool{}
		for _, n := range elements(doc) {
			if id := attr(n, "id"); id != "" && ids[id] {
				t.Errorf("the id %s twice", id)
			} else {
				ids[id] = true
			}
		}
		for _, n := range elements(doc) {
			for _, refers := range []string{"aria-labelledby", "for"} {
				if id := attr(n, refers); id != "" && !ids[id] {
					t.Errorf("<%s %s=%q> refers to nothing", n.Data, refers, id)
				}
			}
			if href := attr(n, "href"); strings.HasPrefix(href, "#") && !ids[href[1:]] {
				t.Errorf("the link %s leads nowhere", href)
			}
		}
		level := 0
		for _, n := range elements(doc, "h1", "h2", "h3", "h4") {
			if now := int(n.Data[1] - '0'); now > level+1 {
				t.Errorf("<%s>%s</%s> after a heading of level %d", n.Data, textOf(n), n.Data, level)
			} else {
				level = now
			}
			if textOf(n) == "" {
				t.Errorf("an empty <%s>", n.Data)
			}
		}
		if len(elements(doc, "main")) != 1 || len(elements(doc, "h1")) != 1 {
			t.Error("not one main landmark with one first heading")
		}
		for _, n := range elements(doc, "table") {
			if len(elements(n, "caption")) != 1 {
				t.Error("a table without a caption")
			}
			for _, th := range elements(n, "th") {
				if attr(th, "scope") == "" || textOf(th) == "" {
					t.Errorf("a table header without a scope or words: %q", textOf(th))
				}
			}
		}
		for _, n := range elements(doc, "svg") {
			if attr(n, "aria-hidden") != "true" && (attr(n, "role") != "img" || attr(n, "aria-label") == "") {
				t.Error("an image without words")
			}
		}
		for _, n := range elements(doc, "progress") {
			if attr(n, "aria-label") == "" {
				t.Error("a progress bar without words")
			}
		}
		for _, n := range elements(doc, "button") {
			if textOf(n) == "" && attr(n, "id") != "confirm-yes" {
				t.Error("a button without words")
			}
		}
		keys := map[*html.Node]map[string]bool{}
		for _, n := range elements(doc) {
			if k := attr(n, "data-key"); k != "" {
				if keys[n.Parent] == nil {
					keys[n.Parent] = map[string]bool{}
				}
				if keys[n.Parent][k] {
					t.Errorf("two siblings <%s> have the key %s", n.Data, k)
				}
				keys[n.Parent][k] = true
			}
		}
		// A state is announced once, in few words, when it changes.
		if state := byID(t, doc, "state"); attr(state, "role") != "status" || textOf(state) != label(v) {
			t.Errorf("the live region says %q", textOf(state))
		}
	})
}

// label is the state that the page of a view announces.
func label(v *View) string {
	if p := (page{View: v}); !p.IsWorker() {
		return p.SystemState().Label
	}
	return v.Health.Label
}

func TestPageSaysWhatItIs(t *testing.T) {
	for name, want := range map[string][]string{
		"healthy":  {"Healthy", "inference_default", "1.3 GiB", "3 m 20 s", "40 % epoch 4", "No task has failed lately.", "4.2/s", "1 d 2 h"},
		"load":     {"12,345", "5 m 12 s", "Queue inference_default: 12,345 tasks wait, the oldest for 5 m 12 s.", "Queue emails is paused; 7 tasks wait.", "17 to retry, 3 given up", "wait for a free slot"},
		"degraded": {"Degraded", "killed by signal 9", "for 3 m 20 s, since 12:31:36 UTC", "MemoryError: cannot allocate 4.2 GiB", "1 worker is dead: worker-dead99.", "are not taken", "It waits for a person: Restart below, or runqy-worker restart worker-abc123 starts it again.", "0–12,208", "p95 1.2 s in 15 min", "18,242 attempts ended since its start, 31 of them failed", "Nothing runs at the moment."},
		"starting": {"Starting", "Not measured yet.", "not measured yet"},
		"retries":  {"attempt 3 of 26, next in 42 s", "given up after 3 of 26", "given up after 26 attempts", "not healthy degraded"},
		"stranger": {"It waits for a person: runqy-worker restart worker-abc123 starts it again."},
		"empty":    {"No queue is served here.", "No worker is registered.", "and no task waits", "0 tasks in this worker's queues", "Nothing runs at the moment."},
		"huge":     {"And 950 more", "tenant_37_inference", "3 workers are dead: worker-000000, worker-000001, worker-000002.", "And 12 more."},
		"checker":  {"fleet checker", "The whole system", "in all workers", "tasks in all queues"},
	} {
		doc := parse(t, pageOf(t, fixtures()[name]))
		shown := strings.Join(strings.Fields(textOf(elements(doc, "body")[0])), " ")
		for _, s := range want {
			if !strings.Contains(shown, s) {
				t.Errorf("%s: the page does not say %q:\n%s", name, s, shown)
			}
		}
	}
}

func TestPageTitleAndIconFollowTheTone(t *testing.T) {
	for name, want := range map[string][2]string{
		"healthy": {"✓ Healthy – worker-abc123", "icon-good.svg"}, "degraded": {"✕ Degraded – worker-abc123", "icon-bad.svg"},
		"starting": {"● Starting – worker-abc123", "icon-quiet.svg"},
	} {
		doc := parse(t, pageOf(t, fixtures()[name]))
		if got := textOf(elements(doc, "title")[0]); got != want[0] {
			t.Errorf("%s: the title is %q, want %q", name, got, want[0])
		}
		if got := attr(byID(t, doc, "icon"), "href"); !strings.Contains(got, want[1]) {
			t.Errorf("%s: the icon is %q, want %s", name, got, want[1])
		}
	}
}

func TestPageWithoutScriptLoadsItselfAgain(t *testing.T) {
	page := pageOf(t, healthyView())
	if !strings.Contains(page, `<noscript><meta http-equiv="refresh" content="5"></noscript>`) {
		t.Error("without JavaScript the page would stay as it is")
	}
}

func TestStderrIsOpenWhenSomethingIsWrong(t *testing.T) {
	open := func(v *View) bool {
		for _, n := range elements(parse(t, pageOf(t, v)), "details") {
			if attr(n, "data-key") == "stderr" {
				return has(n, "open") && has(n, "data-open")
			}
		}
		t.Fatal("standard error is not shown")
		return false
	}
	if open(healthyView()) || !open(degradedView()) {
		t.Error("standard error is open while all is well, or closed when it is not")
	}
}

func TestMessage(t *testing.T) {
	for _, m := range []Message{{OK: true, Title: "Done", Text: "The task is pending again."}, {Title: evil, Text: evil}} {
		var b bytes.Buffer
		if err := newTestRenderer(t).message(&b, m); err != nil {
			t.Fatal(err)
		}
		doc := parse(t, b.String())
		if !slices.ContainsFunc(elements(doc, "a"), func(n *html.Node) bool { return attr(n, "href") == "/" }) {
			t.Error("no way back")
		}
		if strings.Contains(b.String(), "<img") || !strings.Contains(textOf(doc), line(m.Text)) {
			t.Errorf("the message is not told as text:\n%s", b.String())
		}
	}
}

func BenchmarkSections(b *testing.B) {
	r, err := newRenderer()
	if err != nil {
		b.Fatal(err)
	}
	v := hugeView()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.sections(v); err != nil {
			b.Fatal(err)
		}
	}
}
