package dashboard

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	net "github.com/chromedp/cdproto/network" // the tests have a network of their own
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/runqy/runqy-worker/test/harness"
)

// browser is one page of a Chromium of its own. It records what a page must never do.
type browser struct {
	t    *testing.T
	ctx  context.Context //nolint:containedctx // chromedp keeps the browser in it
	host string          // of the worker

	mu       sync.Mutex
	problems []string // guarded by mu: console errors, violations of the policy, exceptions, dialogs, requests elsewhere
}

// openBrowser starts Chromium for the page of one worker. What the page complains of fails the test when it ends.
func openBrowser(t *testing.T, w *harness.Worker) *browser {
	t.Helper()
	b := startBrowser(t, w)
	t.Cleanup(func() {
		for _, p := range b.complaints() {
			t.Errorf("the page: %s", p)
		}
	})
	return b
}

// startBrowser is openBrowser for a page that is expected to complain, of a server that is gone.
func startBrowser(t *testing.T, w *harness.Worker) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("RUNQY_TEST_REQUIRE") == "1" {
			t.Fatal("chromium is missing: apt-get install chromium")
		}
		t.Skip("chromium is not installed")
	}
	// A copy: the options are an array of the package's.
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(program))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, end := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closePage := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		bounded, cancel := context.WithTimeout(ctx, harness.Timeout)
		_ = chromedp.Cancel(bounded) // waits for the browser's end
		cancel()
		closePage()
		end()
	})
	b := &browser{t: t, ctx: ctx, host: w.Addr()}
	b.do(chromedp.EmulateViewport(1280, 900)) // starts it
	if err := chromedp.Listen(ctx, b.observe); err != nil {
		t.Fatalf("listen to the page: %v", err)
	}
	for _, enable := range []func() error{
		func() error { _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); return err },
		func() error { _, err := chromedp.Call(ctx, net.Enable, net.EnableParams{}); return err },
		func() error { _, err := chromedp.Call(ctx, page.Enable, page.EnableParams{}); return err },
		func() error { _, err := chromedp.Call(ctx, runtime.Enable, cdp.Empty{}); return err },
	} {
		if err := enable(); err != nil {
			t.Fatalf("switch on the events of the page: %v", err)
		}
	}
	return b
}

// observe receives every event of the page.
func (b *browser) observe(event any) {
	switch e := event.(type) {
	case *log.EventEntryAdded:
		b.complain("%s: %s: %s (%s)", e.Entry.Source, e.Entry.Level, e.Entry.Text, e.Entry.URL)
	case *runtime.EventExceptionThrown:
		b.complain("exception: %s", e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		b.complain("console.%s", e.Type)
	case *page.EventJavascriptDialogOpening:
		b.complain("a dialog: %s", e.Message)
	case *net.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || u.Scheme != "http" || u.Host != b.host {
			b.complain("a request to %s", e.Request.URL)
		}
	}
}

func (b *browser) complain(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, fmt.Sprintf(format, args...))
}

func (b *browser) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.problems)
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if len(steps) == 0 {
		b.t.Fatal("nothing to do")
	}
	// The first use binds the browser's life to its context, which a limit would end.
	if err := chromedp.Do(b.ctx); err != nil {
		b.t.Fatalf("start chromium: %v", err)
	}
	ctx, cancel := context.WithTimeout(b.ctx, harness.Timeout)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
}

func (b *browser) open() { b.t.Helper(); b.do(chromedp.Navigate("http://" + b.host + "/")) }

// click waits for an element and presses it in the same turn of the page's event loop: a live page may move it between
// a look at its place and a press there.
func (b *browser) click(selector string) {
	b.t.Helper()
	b.holds(fmt.Sprintf(`(() => {
		const what = document.querySelector(%s);
		if (!what || !what.checkVisibility()) return false;
		what.focus();
		what.click();
		return true;
	})()`, strconv.Quote(selector)))
}

func (b *browser) press(key string) { b.t.Helper(); b.do(chromedp.KeyEvent(key)) }

// scripts turns JavaScript on or off, from the next page on.
func (b *browser) scripts(on bool) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on}); err != nil {
		b.t.Fatalf("switch JavaScript: %v", err)
	}
}

func (b *browser) scheme(name string) {
	b.t.Helper()
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features}); err != nil {
		b.t.Fatalf("set the colour scheme: %v", err)
	}
}

// header sends a header with each request from now on.
func (b *browser) header(name, value string) {
	b.t.Helper()
	headers := net.Headers{name: value}
	if _, err := chromedp.Call(b.ctx, net.SetExtraHTTPHeaders, net.SetExtraHTTPHeadersParams{Headers: headers}); err != nil {
		b.t.Fatalf("set a header: %v", err)
	}
}

// ask evaluates an expression in the page.
func ask[T any](b *browser, expression string) T {
	b.t.Helper()
	v, err := evaluate[T](b, expression)
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

func evaluate[T any](b *browser, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, harness.Timeout)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression))
}

// text is what is written in an element, its white space made single.
func (b *browser) text(selector string) string {
	b.t.Helper()
	return strings.Join(strings.Fields(ask[string](b, `(document.querySelector(`+quoted(selector)+`) || {textContent: ""}).textContent`)), " ")
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

// shows waits until an element contains a text.
func (b *browser) shows(selector, want string) {
	b.t.Helper()
	harness.Eventually(b.t, selector+" shows "+want, func() error {
		if got := b.text(selector); !strings.Contains(got, want) {
			return fmt.Errorf("it shows %q", got)
		}
		return nil
	})
}

// holds waits until an expression is true.
func (b *browser) holds(expression string) {
	b.t.Helper()
	harness.Eventually(b.t, expression, func() error {
		if ok, err := evaluate[bool](b, expression); err != nil || !ok {
			return fmt.Errorf("it is not so (%w)", errOr(err))
		}
		return nil
	})
}

func errOr(err error) error {
	if err != nil {
		return err
	}
	return errNotYet
}
