// Package systemd reports the state of the worker to the service manager by the protocol of sd_notify(3): ready,
// stopping, a line of status, and the watchdog. Without $NOTIFY_SOCKET it does nothing.
package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-systemd/v22/daemon"
)

const (
	// maxTick is the longest time between two messages to the service manager.
	maxTick = 5 * time.Second
	// sendTimeout bounds the wait for a service manager that does not read.
	sendTimeout = 2 * time.Second
	// maxText is how many bytes of the status are sent; a datagram is small, and systemctl shows one line.
	maxText = 400
)

// State is what is reported to the service manager.
type State struct {
	// Starting holds back READY=1, and with it everything that waits for the start. It means nothing after that
	// message.
	Starting bool
	// Stopping sends STOPPING=1.
	Stopping bool
	// Text is the line of status. Line breaks and other control characters become spaces.
	Text string
}

// Options are what a Notifier reports. All but Logger are required; the functions must not block.
type Options struct {
	State func() State
	// Changed returns a channel that is closed when State may have changed; it is taken before State is called.
	Changed func() <-chan struct{}
	// Live reports whether the process still does its work, and why not. While it does not, the watchdog is not fed and
	// the start gets no more time.
	Live func() (ok bool, reason string)
	// StopTimeout is how long the process may take from Stopping to its end. The service manager is asked for that much
	// where its own timeout is shorter.
	StopTimeout time.Duration
	Logger      *slog.Logger
}

// Notifier follows the state of one process. Run is called once.
type Notifier struct {
	opts     Options
	send     func(message string) error // nil: there is no service manager
	watchdog time.Duration              // 0: there is none

	ready, stopping bool
	text            string // as last sent
	failing         bool
}

// NewNotifier reads $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID. What it cannot read there is an error.
func NewNotifier(opts Options) (*Notifier, error) {
	n := &Notifier{opts: opts}
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return n, nil
	}
	if socket[0] != '/' && socket[0] != '@' {
		return nil, fmt.Errorf("NOTIFY_SOCKET %q is neither a path nor an abstract socket (@name)", socket)
	}
	var err error
	if n.watchdog, err = daemon.SdWatchdogEnabled(false); err != nil {
		return nil, fmt.Errorf("read the watchdog's variables: %w", err)
	}
	n.send = func(message string) error { return sendTo(socket, message) }
	return n, nil
}

// sendTo is daemon.SdNotify with a timeout: that one waits for ever when the service manager does not read.
func sendTo(socket, message string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("reach the service manager: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("set the timeout of a message to the service manager: %w", err)
	}
	if _, err := conn.Write([]byte(message)); err != nil {
		return fmt.Errorf("write to the service manager: %w", err)
	}
	return nil
}

// Run reports until ctx is over, and then reports that the process stops. It blocks until then. The error is always
// nil: a worker runs on without its service manager, and a message that cannot be sent is logged once.
func (n *Notifier) Run(ctx context.Context) error {
	if n.send == nil {
		return nil
	}
	every := maxTick
	if n.watchdog > 0 {
		every = min(every, n.watchdog/3) // so that a late one does not count as missing
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for regular := true; ; {
		changed := n.opts.Changed()
		n.notify(n.message(regular))
		regular = false
		select {
		case <-changed:
		case <-tick.C:
			regular = true
		case <-ctx.Done():
			if !n.stopping {
				n.notify([]string{daemon.SdNotifyStopping})
			}
			return nil
		}
	}
}

// message is what there is to report now; empty when nothing is. A regular one also feeds the watchdog.
func (n *Notifier) message(regular bool) []string {
	state := n.opts.State()
	live, reason := n.opts.Live()
	text := oneLine(state.Text)
	if !live {
		text = oneLine(reason)
	}
	var lines []string
	if !n.ready && !n.stopping && !state.Starting && !state.Stopping {
		n.ready = true
		lines = append(lines, daemon.SdNotifyReady)
	}
	if state.Stopping && !n.stopping {
		n.stopping = true
		lines = append(lines, daemon.SdNotifyStopping, extend(n.opts.StopTimeout))
	}
	if text != n.text {
		n.text = text
		lines = append(lines, "STATUS="+text)
	}
	if regular && live {
		if !n.ready && !n.stopping {
			lines = append(lines, extend(3*maxTick))
		}
		if n.watchdog > 0 {
			lines = append(lines, daemon.SdNotifyWatchdog)
		}
	}
	return lines
}

func extend(d time.Duration) string { return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds()) }

// oneLine keeps a text that may have lines of stderr in it from being read as more assignments.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}

func (n *Notifier) notify(lines []string) {
	if len(lines) == 0 {
		return
	}
	err := n.send(strings.Join(lines, "\n"))
	switch {
	case err != nil && !n.failing:
		n.opts.Logger.Warn("service manager notification failed", "error", err)
	case err == nil && n.failing:
		n.opts.Logger.Info("service manager notification works again")
	}
	n.failing = err != nil
	if err != nil {
		n.forget(lines)
	}
}

// forget makes the next tick send again what was not sent.
func (n *Notifier) forget(lines []string) {
	for _, line := range lines {
		switch {
		case line == daemon.SdNotifyReady:
			n.ready = false
		case line == daemon.SdNotifyStopping:
			n.stopping = false
		case strings.HasPrefix(line, "STATUS="):
			n.text = ""
		}
	}
}
