package harness

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// ReadFile returns what is in a file, which must be there.
func ReadFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("read a file: %v", err)
	}
	return string(text)
}

// TaskFile returns the absolute path of a file in test/tasks.
func TaskFile(t *testing.T, name string) string {
	t.Helper()
	return RepositoryFile(t, "test/tasks/"+name)
}

// WriteFile makes or replaces a file.
func WriteFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatalf("write a file: %v", err)
	}
}

// FreePort returns a loopback TCP port that nobody listens on at the moment.
func FreePort(t *testing.T) string {
	t.Helper()
	return strconv.Itoa(redistest.FreePort(t))
}

// RefusingPort returns a loopback TCP port that refuses connections, and that no other process can take until the test
// ends.
func RefusingPort(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatalf("make a socket: %v", err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	syscall.CloseOnExec(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatalf("bind a socket: %v", err)
	}
	address, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatalf("read a socket's address: %v", err)
	}
	return strconv.Itoa(address.(*syscall.SockaddrInet4).Port)
}

// ReadLines returns the lines of a file that tasks write to: one empty line while there is no file.
func ReadLines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("read the lines of a file: %v", err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// CountFirstWords returns how many of the lines begin with each word; empty lines are not counted.
func CountFirstWords(lines []string) map[string]int {
	counts := map[string]int{}
	for _, line := range lines {
		if word, _, _ := strings.Cut(line, " "); word != "" {
			counts[word]++
		}
	}
	return counts
}
