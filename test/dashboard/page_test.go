package dashboard

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/hibiken/asynq"
	"golang.org/x/crypto/bcrypt"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

var errNotYet = errors.New("not yet")

// The page is whole before any script has run, and its forms work without one.
func TestDashboardWithoutJavaScript(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	q.PythonPID(w.ID)
	failed := q.Enqueue("boom", map[string]any{"text": "without a script"}, asynq.MaxRetry(3))
	q.AwaitState(failed, asynq.TaskStateRetry)

	b := openBrowser(t, w)
	b.scripts(false)
	b.open()
	b.shows("#state", "Healthy")
	b.shows("#top", w.ID)
	b.shows("#queues", harness.QueueName)
	b.shows("#process", "running")
	b.shows("#failures", "boom: without a script")
	b.shows("footer", "Without JavaScript")
	b.click(`#queues form[action="/actions/pause"] button`)
	b.shows("#queues", "paused")
	b.click(`#queues form[action="/actions/resume"] button`)
	b.holds(`!document.querySelector("#queues").textContent.includes("paused")`)
	b.click(`#failures form[action="/actions/delete"] button`)
	b.shows("#failures", "No task has failed lately.")
	q.AwaitGone(failed)
}

// What happens is seen without loading the page again, and what the reader has opened, focused or selected stays so.
func TestDashboardLive(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	q.PythonPID(w.ID)
	b := openBrowser(t, w)
	b.open()
	b.shows("#state", "Healthy")
	b.shows("#live", "Live")
	ask[bool](b, `window.unloaded = true`) // gone with the first reload

	q.AwaitState(q.Enqueue("boom", map[string]any{"text": "look at me"}, asynq.MaxRetry(3)), asynq.TaskStateRetry)
	b.shows("#failures", "ValueError: boom: look at me")
	b.click("#failures summary")
	b.shows("#failures details[open] pre", "Traceback (most recent call last)")
	ask[bool](b, `(() => { getSelection().selectAllChildren(document.querySelector("#failures details pre")); return true })()`)

	running := q.Enqueue("sleep", map[string]any{"seconds": 600})
	b.shows("#active", running)
	q.Enqueue("echo", nil)
	q.Enqueue("echo", nil)
	b.holds(`document.querySelector("#queues td[data-label=Pending]").textContent === "2"`)
	b.shows("#health .vitals", "Waiting 2")
	seen := b.text("#active .time")
	harness.Eventually(t, "the running time goes on", func() error {
		if b.text("#active .time") == seen {
			return errNotYet
		}
		return nil
	})
	if !ask[bool](b, `document.querySelector("#failures details").open && getSelection().toString().includes("Traceback") && document.activeElement.nodeName === "SUMMARY"`) {
		t.Error("an update closed what was open, or took the selection or the focus away")
	}
	if !ask[bool](b, `window.unloaded`) {
		t.Error("the page was loaded again")
	}
	// After an upgrade the worker sends what this page does not know: it must load itself again.
	ask[bool](b, `(() => { document.body.dataset.build = "another"; return true })()`)
	b.holds(`window.unloaded === undefined && !document.querySelector("#live").hidden`)
	b.shows("#failures", "look at me")
}

// Names and errors are shown as they are written, whatever they are.
func TestDashboardHostileText(t *testing.T) {
	t.Parallel()
	const queue, text = `<img/src=x/onerror=alert(1)>`, "</pre><script>alert(2)</script><img src=x onerror=alert(3)>\u202egnp.exe"
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"worker.queues": []string{harness.QueueName, queue}, "dashboard.show_payloads": true})
	q.PythonPID(w.ID)
	b := openBrowser(t, w)
	b.open()
	b.shows("#queues", queue)
	for _, name := range []string{harness.QueueName, queue} {
		q.Enqueue("boom", map[string]any{"text": text}, asynq.Queue(name), asynq.MaxRetry(3), asynq.TaskID(text))
		q.Enqueue(text, map[string]any{"text": text}, asynq.Queue(name), asynq.MaxRetry(3))
	}
	b.holds(`document.querySelectorAll("#failures li").length === 4`)
	b.shows("#failures", `<script>alert(2)</script>`)
	b.shows("#failures", `\u202egnp.exe`)
	b.shows("#failures details", "alert(3)")
	b.open() // also at first paint
	b.shows("#failures", `<script>alert(2)</script>`)
	if n := ask[int](b, `document.querySelectorAll("img, main script, main iframe").length`); n != 0 {
		t.Errorf("%d elements of the text are live, want none", n)
	}
	if wide := ask[int](b, `document.documentElement.scrollWidth`); wide > 1280 {
		t.Errorf("the page is %d pixels wide, want 1280 at most", wide)
	}
	// The queue with the strange name can be paused like any other.
	b.click(`#queues tr:has([title^="<img"]) form button`)
	b.click("#confirm-yes")
	b.shows(`#queues tr:has([title^="<img"])`, "paused")
}

// A death is seen within two seconds, and the restart button brings the worker back.
func TestDashboardCrashTurnsRedAndRestartHeals(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	first := q.PythonPID(w.ID)
	b := openBrowser(t, w)
	b.open()
	b.shows("#state", "Healthy")
	b.shows("#live", "Live")
	ask[bool](b, `(() => {
		window.states = [];
		new MutationObserver(() => window.states.push(document.querySelector("#state").textContent)).observe(document.querySelector("#state"), {characterData: true, childList: true, subtree: true});
		const look = () => { if (!window.red && document.querySelector("#health").dataset.tone === "bad") window.red = Date.now() };
		new MutationObserver(look).observe(document.querySelector("#health"), {attributes: true});
		return true })()`)
	killed := time.Now()
	harness.Kill(t, first, syscall.SIGKILL)
	b.holds(`window.red > 0`)
	took := time.UnixMilli(int64(ask[float64](b, `window.red`))).Sub(killed)
	t.Logf("the page was red %v after kill -9", took)
	if took > 10*time.Second {
		t.Errorf("the page was red %v after kill -9, want 10s at most", took)
	}
	b.shows("#state", "Degraded")
	b.shows("#health .reasons", "SIGKILL")
	b.shows("#health .checks", "Python process unhealthy")
	if title, icon := ask[string](b, `document.title`), ask[string](b, `document.querySelector("#icon").href`); title != "✕ Degraded – "+w.ID || !strings.Contains(icon, "icon-bad.svg") {
		t.Errorf("the title is %q and the icon %q, want those of a degraded worker", title, icon)
	}

	b.click("#process form button")
	b.shows("#confirm[open]", "Restart the Python process?")
	b.click("#confirm-yes")
	b.shows("#outcome", "restarted")
	b.shows("#state", "Healthy")
	b.holds(`document.querySelector("#health").dataset.tone === "good" && document.title.startsWith("✓ Healthy")`)
	if second := q.PythonPID(w.ID); second == first {
		t.Error("the process is the same after a restart, want another")
	}
	if states := ask[[]string](b, `window.states`); !slices.Equal(states[:1], []string{"Degraded"}) || states[len(states)-1] != "Healthy" || len(states) > 4 {
		t.Errorf("the live region showed %q, want Degraded first, Healthy last and 4 at most", states)
	}
}

func TestDashboardActions(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	q.PythonPID(w.ID)
	retried := q.Enqueue("boom", nil, asynq.MaxRetry(5))
	deleted := q.Enqueue("permanent", nil, asynq.MaxRetry(5))
	q.AwaitState(retried, asynq.TaskStateRetry)
	q.AwaitState(deleted, asynq.TaskStateArchived)
	b := openBrowser(t, w)
	b.open()
	b.shows("#failures", retried)
	b.shows("#failures", deleted)
	of := func(id, action string) string {
		return `#failures li:has(code[title="` + id + `"]) form[action="/actions/` + action + `"] button`
	}

	b.click(of(deleted, "delete"))
	b.shows("#confirm[open]", "Delete the task "+deleted)
	b.click("#confirm-no")
	b.holds(`!document.querySelector("#confirm").open`)
	if _, err := q.Inspector.GetTaskInfo(harness.QueueName, deleted); err != nil {
		t.Errorf("a deletion that was called off: %v", err)
	}
	b.click(of(deleted, "delete"))
	b.click("#confirm-yes")
	b.shows("#outcome", "The task is deleted.")
	q.AwaitGone(deleted)
	b.holds(`!document.querySelector("#failures").textContent.includes("` + deleted + `")`)

	b.click(of(retried, "retry"))
	b.shows("#outcome", "The task is pending again.")
	harness.Eventually(t, "the task runs again", func() error {
		if info, err := q.Inspector.GetTaskInfo(harness.QueueName, retried); err != nil || info.Retried < 2 {
			return fmt.Errorf("%s (%w)", q.Describe(retried), errOr(err))
		}
		return nil
	})

	b.click(`#queues form[action="/actions/pause"] button`)
	b.shows("#confirm[open]", "Pause the queue "+harness.QueueName)
	b.click("#confirm-yes")
	b.shows("#queues", "paused")
	b.shows("#health .notices", "is paused")
	waits := q.Enqueue("echo", map[string]any{"n": 1})
	b.holds(`document.querySelector("#queues td[data-label=Pending]").textContent === "1"`)
	b.click(`#queues form[action="/actions/resume"] button`)
	b.holds(`!document.querySelector("#queues").textContent.includes("paused")`)
	q.Result(waits)
}

// The button beside a running task shows where it is, with a script in a dialog and without one as a page.
func TestDashboardShowsWhereATaskIs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	q.PythonPID(w.ID)
	task := q.Enqueue("sleep", map[string]any{"seconds": 600})
	q.AwaitHeartbeat(w.ID, "active_task="+task)
	const button = `#active form[action="/actions/stack"] button`

	b := openBrowser(t, w)
	b.open()
	b.shows("#active", task)
	b.click(button)
	b.shows("#details-title", "sync.py:")
	b.shows("#details-text", "most recent call first")
	b.click("#details button")
	b.holds(`!document.querySelector("#details").open`)

	plain := openBrowser(t, w)
	plain.scripts(false)
	plain.open()
	plain.click(button)
	plain.shows("main", "Where it is")
	plain.shows("main", "most recent call first")
}

// Behind a proxy everybody is a stranger: no task data, and nothing to press.
func TestDashboardForStrangers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"dashboard.show_payloads": true})
	q.PythonPID(w.ID)
	q.AwaitState(q.Enqueue("boom", map[string]any{"text": "a secret"}, asynq.MaxRetry(3)), asynq.TaskStateRetry)
	harness.Kill(t, q.PythonPID(w.ID), syscall.SIGKILL)
	b := openBrowser(t, w)
	b.open()
	b.shows("#failures", "a secret")

	b.header("X-Forwarded-For", "192.0.2.7")
	b.open()
	b.shows("#state", "Degraded")
	b.shows("#live", "Live") // the stream is a stranger's too
	b.shows("#failures", "boom")
	b.shows("#health .access", "Shown only on this machine")
	for range 3 { // as it is loaded, and as it is updated
		if page := ask[string](b, `document.documentElement.outerHTML`); strings.Contains(page, "a secret") || strings.Contains(page, "Traceback") || strings.Contains(page, `name="token"`) {
			t.Error("a stranger sees what a task carries, or a form")
		}
		seen := b.text("#fleet")
		harness.Eventually(t, "the page is updated", func() error {
			if b.text("#fleet") == seen {
				return errNotYet
			}
			return nil
		})
	}
	if n := ask[int](b, `document.querySelectorAll("main button, main form").length`); n != 0 {
		t.Errorf("a stranger has %d buttons and forms, want none", n)
	}
}

// A user with the password of the port may see and do everything, from anywhere.
func TestDashboardWithPassword(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("port-password"), bcrypt.MinCost)
	if err != nil {
		t.Fatalf("hash the password: %v", err)
	}
	file := filepath.Join(t.TempDir(), "web.yaml")
	if err := os.WriteFile(file, []byte("basic_auth_users: {operator: '"+string(hash)+"'}\n"), 0o600); err != nil {
		t.Fatalf("write the web_config: %v", err)
	}
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"health.web_config": file})
	q.PythonPID(w.ID)
	q.AwaitState(q.Enqueue("boom", map[string]any{"text": "for the operator"}, asynq.MaxRetry(3)), asynq.TaskStateRetry)
	for header, want := range map[string]int{"": http.StatusUnauthorized, "Basic " + base64.StdEncoding.EncodeToString([]byte("operator:port-password")): http.StatusOK} {
		for _, path := range []string{"/", "/assets/app.js"} {
			req, err := http.NewRequest(http.MethodGet, "http://"+w.Addr()+path, nil)
			if err != nil {
				t.Fatalf("make a request: %v", err)
			}
			if header != "" {
				req.Header.Set("Authorization", header)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatalf("ask for %s: %v", path, err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s answers %d, want %d", path, resp.StatusCode, want)
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()

	b := openBrowser(t, w)
	b.header("X-Forwarded-For", "192.0.2.7")
	b.do(chromedp.Navigate("http://operator:port-password@" + b.host + "/"))
	b.shows("#failures", "for the operator")
	b.shows("#live", "Live")
	b.click(`#queues form[action="/actions/pause"] button`)
	b.click("#confirm-yes")
	b.shows("#queues", "paused")
}

// Everything can be reached and done with the keyboard, in the order of the page.
func TestDashboardByKeyboard(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	q.PythonPID(w.ID)
	q.AwaitState(q.Enqueue("boom", nil, asynq.MaxRetry(3)), asynq.TaskStateRetry)
	b := openBrowser(t, w)
	b.open()
	b.shows("#failures", "boom")
	b.shows("#live", "Live")
	const about = `(() => { const e = document.activeElement; const r = e.getBoundingClientRect(), s = getComputedStyle(e);
		return e === document.body ? "" : e.textContent.trim().replace(/\s+/g, " ") + (r.width && r.bottom > 0 && r.top < innerHeight && s.outlineStyle !== "none" ? "" : " (unseen)") })()`
	want := []string{"Skip to the state of this worker", "Waiting", "Running", "Done", "Failed", "Workers", "Restart", "Pause queue", "Retry now task", "Delete task", "Traceback"}
	var walked []string
	for range 40 {
		b.press(kb.Tab)
		walked = append(walked, ask[string](b, about))
	}
	at := 0
	for _, stop := range walked {
		if at < len(want) && strings.HasPrefix(stop, want[at]) {
			at++
		}
		if strings.HasSuffix(stop, " (unseen)") {
			t.Errorf("the focus cannot be seen on %q", stop)
		}
	}
	if at < len(want) {
		t.Errorf("Tab never came to %q after %q; it came to %q", want[at], want[:at], walked)
	}

	ask[bool](b, `(() => { document.querySelector("#process form button").focus(); return true })()`)
	b.press(kb.Enter)
	b.holds(`document.querySelector("#confirm").open && document.activeElement.id === "confirm-no"`)
	b.press(kb.Escape)
	b.holds(`!document.querySelector("#confirm").open && document.activeElement.textContent.startsWith("Restart")`)
	// What held the focus is gone: it goes to the heading of its section, not to the top of the page.
	ask[bool](b, `(() => { document.querySelector('#failures form[action="/actions/delete"] button').focus(); return true })()`)
	b.press(kb.Enter)
	b.holds(`document.querySelector("#confirm").open`)
	b.press(kb.Tab)
	b.press(kb.Enter)
	b.shows("#failures", "No task has failed lately.")
	b.holds(`document.activeElement.id === "failures-title"`)
}

func TestDashboardOnAPhone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"worker.queues": []string{harness.QueueName, strings.Repeat("long_name_", 12)}})
	q.PythonPID(w.ID)
	q.AwaitState(q.Enqueue("boom", map[string]any{"text": strings.Repeat("endless", 100)}, asynq.MaxRetry(3)), asynq.TaskStateRetry)
	q.Enqueue("sleep", map[string]any{"seconds": 600}, asynq.TaskID(strings.Repeat("id", 100)))
	b := openBrowser(t, w)
	b.do(chromedp.EmulateViewport(360, 740, chromedp.EmulateMobile, chromedp.EmulateTouch))
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		b.open()
		b.shows("#failures", "endless")
		b.shows("#active", "idid")
		if wide := ask[int](b, `document.documentElement.scrollWidth`); wide > 360 {
			t.Errorf("%s: the page is %d pixels wide, want 360 at most", scheme, wide)
		}
		// What is wrong must be seen without scrolling.
		if below := ask[bool](b, `document.querySelector("#health .banner").getBoundingClientRect().bottom > innerHeight`); below {
			t.Errorf("%s: the health is not in view", scheme)
		}
	}
}

// A page without updates shows that it is stale, and no green state that may be out of date.
func TestDashboardShowsThatItIsStale(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	port := harness.FreePort(t)
	w := harness.StartWorker(t, server.URL, harness.Settings{"health.listen": "127.0.0.1:" + port})
	q.PythonPID(w.ID)
	b := startBrowser(t, w)
	b.open()
	b.shows("#live", "Live")
	const dead = `document.body.classList.contains("is-stale") && !document.querySelector("#stale").hidden && document.title.startsWith("? Not live")` +
		` && document.querySelector("#icon").href.includes("icon-stale") && getComputedStyle(document.querySelector("main")).filter.includes("grayscale")`
	const alive = `!document.body.classList.contains("is-stale") && document.querySelector("#stale").hidden && document.title.startsWith("✓ Healthy")`

	w.Signal(syscall.SIGSTOP)
	b.holds(dead)
	b.shows("#stale", "Not live: this is how it was at ")
	w.Signal(syscall.SIGCONT)
	b.holds(alive)

	w.Signal(syscall.SIGKILL)
	w.WaitExit()
	b.holds(dead)
	ask[bool](b, `window.unloaded = true`)
	w.Start("run", "-c", w.Config) // another process: its forms have another token
	b.holds(alive)
	if !ask[bool](b, `window.unloaded`) {
		t.Error("the same build, and the page was loaded again")
	}
	b.click(`#queues form[action="/actions/pause"] button`)
	b.click("#confirm-yes")
	b.shows("#queues", "paused")
	for _, p := range b.complaints() {
		if !strings.Contains(p, "net::ERR_") {
			t.Errorf("the page: %s", p)
		}
	}
}
