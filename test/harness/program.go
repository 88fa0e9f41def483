package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// program is what build has built, before any test runs.
var program struct { //nolint:gochecknoglobals // what TestMain has built, for every test of the package
	path    string
	sources []string // the folders and embedded files that it is built from
	observe sync.Once
}

// Program returns the path of the program under test, which has the race detector if the tests have it.
//
// go test notes what a test opens, to know when a result that it has cached is out of date. It cannot see what another
// program is built from, so the first call looks at that; go test does not take notes before the tests run.
func Program() string {
	program.observe.Do(func() {
		for _, path := range program.sources {
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				_, _ = os.ReadDir(path)
			}
		}
	})
	return program.path
}

// ProgramWithoutRace returns the path of the program without the race detector, for tests that count what it costs, or run
// so many that what the detector costs counts. It is built by the first call.
func ProgramWithoutRace(t *testing.T) string {
	t.Helper()
	root, err := repository()
	if err != nil {
		t.Fatalf("build the program: %v", err)
	}
	path, err := link(root, false)
	if err != nil {
		t.Fatalf("build the program: %v", err)
	}
	return path
}

// build has Go build the program under test.
func build() error {
	root, err := repository()
	if err != nil {
		return err
	}
	if program.path, err = link(root, raceEnabled); err != nil {
		return err
	}
	program.sources, err = sources(root)
	return err
}

// link builds the program into .cache/test, where the packages of one checkout share it, and returns its path. Whether
// it is up to date is for Go to say, which links it only if it is not: a stale one is never used, and several packages
// cost one link.
func link(root string, race bool) (path string, err error) {
	dir := filepath.Join(root, ".cache", "test")
	args := []string{"build", "-buildvcs=false"} // the state of the worktree would be a reason to link again
	if race {
		dir += "-race"
		args = append(args, "-race")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	path = filepath.Join(dir, "runqy-worker")
	cmd := exec.Command("go", append(args, "-o", path, "./cmd/runqy-worker")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
}

// lock waits until no other process has the file locked. The kernel releases a lock whose process has died.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { file.Close() }, nil
}

// sources lists every folder and embedded file that the program is built from, and the handlers that its workers run.
func sources(root string) ([]string, error) {
	const format = `{{with .Module}}{{if .Main}}{{$.Dir}}{{"\n"}}{{range $.EmbedFiles}}{{$.Dir}}/{{.}}{{"\n"}}{{end}}{{end}}{{end}}`
	cmd := exec.Command("go", "list", "-deps", "-f", format, "./cmd/runqy-worker")
	cmd.Dir = root
	list, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the sources: %w", err)
	}
	return append(strings.Fields(string(list)), filepath.Join(root, "go.mod"), filepath.Join(root, "test", "tasks")), nil
}
