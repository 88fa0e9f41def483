package main

import (
	"io"
	"math"
	"os"
	"strings"
	"unicode"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/runqy/runqy-worker/client"
)

const (
	waitBarSteps = 1000
	waitBarWidth = 24
	// waitBarRest is what a bar's line has besides the message: the bar, its share and the times.
	waitBarRest = waitBarWidth + 32
)

// waitBar shows the progress that a task reports, on one line of a terminal that is erased again. A task that never
// reports has none.
type waitBar struct {
	out     io.Writer
	columns int
	bar     *progressbar.ProgressBar // nil: none is shown
	last    int64
}

// newWaitBar returns a bar for a terminal, or nil, which shows nothing, for anything else.
func newWaitBar(w io.Writer) *waitBar {
	if !isTerminal(w) {
		return nil
	}
	b := &waitBar{out: w, columns: 80}
	if f, ok := w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			b.columns = columns
		}
	}
	return b
}

// show draws what the task has reported; a report of nothing, as at the beginning of another attempt, erases the bar.
func (b *waitBar) show(p client.Progress) {
	if p.Fraction < 0 && p.Message == "" {
		b.clear()
		return
	}
	steps := int64(math.Floor(max(p.Fraction, 0) * waitBarSteps))
	if b.bar != nil && (steps < b.last || b.bar.IsFinished()) {
		b.clear()
	}
	if b.bar == nil {
		b.last = 0
		b.bar = progressbar.NewOptions64(waitBarSteps, progressbar.OptionSetWriter(b.out), progressbar.OptionSetWidth(waitBarWidth))
	}
	// A bar that cannot be drawn stops nothing.
	b.bar.Describe(b.fit(p.Message))
	_ = b.bar.Set64(steps)
	b.last = steps
}

// clear erases the bar, so that something else can be written.
func (b *waitBar) clear() {
	if b != nil && b.bar != nil {
		_ = b.bar.Clear()
		b.bar = nil
	}
}

// fit cuts a message so that the bar stays on one line, which could not be erased otherwise. Anybody may have written
// it into Redis.
func (b *waitBar) fit(message string) string {
	message = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, message)
	runes := []rune(message)
	if width := max(b.columns-waitBarRest, 0); len(runes) > width {
		return string(runes[:width])
	}
	return message
}
