package harness

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A package that needs the program waits until another one has built it.
func TestLockIsExclusive(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(path)
	if err != nil {
		t.Fatalf("lock: %v", err)
	}
	locked := make(chan error)
	go func() { // ends when it has the lock, which the test waits for
		again, err := lock(path)
		if err == nil {
			again()
		}
		locked <- err
	}()
	select {
	case err := <-locked:
		t.Fatalf("a second lock beside the first: %v, want none", err)
	case <-time.After(50 * time.Millisecond):
	}
	unlock()
	if err := <-locked; err != nil {
		t.Errorf("the second lock, after the first: %v", err)
	}
}

func TestRepositoryFile(t *testing.T) {
	t.Parallel()
	path := RepositoryFile(t, "test/harness/harness_test.go")
	if _, err := os.Stat(path); err != nil || !filepath.IsAbs(path) {
		t.Errorf("the path of this file is %q (%v), want an absolute one that is there", path, err)
	}
}

func TestRefusingPort(t *testing.T) {
	t.Parallel()
	address := "127.0.0.1:" + RefusingPort(t)
	if conn, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connect to the port: %v, %v, want it refused", conn, err)
	}
	if l, err := net.Listen("tcp", address); err == nil {
		l.Close()
		t.Error("another listener takes the port, want it taken")
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ waited, check, want time.Duration }{
		{0, 0, PollInterval},
		{time.Minute, 0, 5 * PollInterval},
		{time.Second, 100 * time.Millisecond, 200 * time.Millisecond},
	} {
		if got := pause(test.waited, test.check); got != test.want {
			t.Errorf("the pause after waiting %v, with a check of %v, is %v, want %v", test.waited, test.check, got, test.want)
		}
	}
}

func TestEventually(t *testing.T) {
	t.Parallel()
	left := 3
	Eventually(t, "the third check", func() error {
		if left--; left > 0 {
			return fmt.Errorf("%d are left", left)
		}
		return nil
	})
	if left != 0 {
		t.Errorf("%d checks are left, want 0", left)
	}
	var final FatalError
	if err := fmt.Errorf("wrapped: %w", Fatal("no use")); !errors.As(err, &final) {
		t.Errorf("%v is no FatalError, want one", err)
	}
}

func TestSettingsWith(t *testing.T) {
	t.Parallel()
	set := Settings{"worker.id": "a", "worker.concurrency": 2}
	if other := set.With("worker.id", "b"); other["worker.id"] != "b" || other["worker.concurrency"] != 2 || set["worker.id"] != "a" {
		t.Errorf("the copy is %v and the original %v, want only the copy changed", other, set)
	}
}

func TestLogBuffer(t *testing.T) {
	t.Parallel()
	var log LogBuffer
	fmt.Fprint(&log, "no JSON\n"+`{"msg":"worker dead","worker_id":"a"}`+"\n"+`{"msg":"worker dead","worker_id":"b"}`+"\n")
	if line := log.Find("dead"); line["worker_id"] != "b" {
		t.Errorf("the newest line is %v, want that of b", line)
	}
	if line := log.FindWith("dead", "worker_id", "a"); line["worker_id"] != "a" {
		t.Errorf("the line of a is %v, want it", line)
	}
	if line := log.Find("alive"); line != nil {
		t.Errorf("a line that is not there is %v, want nil", line)
	}
}
