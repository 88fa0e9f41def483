package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// program is the path of the program under test; build sets it before any test runs.
var program string //nolint:gochecknoglobals // what TestMain has built, for every test of the package

// Program returns the path of the program under test, which has the race detector if the tests have it.
func Program() string { return program }

// build has Go build the program into .cache/test, where the packages of one checkout share it. Whether it is up to
// date is for Go to say, which links it only if it is not: a stale one is never used, and several packages cost one
// link.
func build() error {
	root, err := repository()
	if err != nil {
		return err
	}
	dir := filepath.Join(root, ".cache", "test")
	args := []string{"build", "-buildvcs=false"} // the state of the worktree would be a reason to link again
	if raceEnabled {
		dir += "-race"
		args = append(args, "-race")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	program = filepath.Join(dir, "runqy-worker")
	cmd := exec.Command("go", append(args, "-o", program, "./cmd/runqy-worker")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return observe(root)
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

// observe looks at every folder and embedded file that the program is built from. go test notes what a test opens, and
// so knows that a result which it has cached is out of date: it cannot see what another process is built from.
func observe(root string) error {
	const sources = `{{with .Module}}{{if .Main}}{{$.Dir}}{{"\n"}}{{range $.EmbedFiles}}{{$.Dir}}/{{.}}{{"\n"}}{{end}}{{end}}{{end}}`
	cmd := exec.Command("go", "list", "-deps", "-f", sources, "./cmd/runqy-worker")
	cmd.Dir = root
	list, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("list the sources: %w", err)
	}
	for _, path := range append(strings.Fields(string(list)), filepath.Join(root, "go.mod"), filepath.Join(root, "test", "tasks")) {
		info, err := os.Stat(path)
		if err == nil && info.IsDir() {
			_, err = os.ReadDir(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
