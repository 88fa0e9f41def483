// Package harness runs the real program for the end-to-end and fault tests in the folders of test: with a real Python,
// against a real redis-server, looked at as a user would: redis-cli, HTTP, signals and exit codes. Only those test
// packages import it.
package harness

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

// Main is the TestMain of a package that uses the harness: it builds the program under test, runs the tests and then
// looks for goroutines that were left behind. It does not return.
//
// The tests wait for other processes most of the time, so parallel of them run at once, unless -parallel says
// otherwise. go test runs as many packages at once as there are processors: the limit is for half of a machine.
func Main(m *testing.M, parallel int) {
	flag.Parse()
	os.Exit(run(m, parallel))
}

func run(m *testing.M, parallel int) int {
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "build the program under test:", err)
		return 1
	}
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == f.DefValue {
		_ = f.Value.Set(strconv.Itoa(parallel))
	}
	redis.SetLogger(silent{})
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// Long skips a test that takes too long for every day, unless RUNQY_TEST_LONG=1 asks for it. Its name begins with
// TestLong, by which make test-long finds it.
func Long(t *testing.T) {
	t.Helper()
	if os.Getenv("RUNQY_TEST_LONG") != "1" {
		t.Skip("it takes long: make test-long")
	}
}

// silent drops what the Redis client says while servers are killed under it.
type silent struct{}

// Printf implements the Redis client's logger.
func (silent) Printf(context.Context, string, ...any) {}

// RepositoryFile returns the absolute path of a file, which need not exist, by its path in the repository.
func RepositoryFile(t testing.TB, name string) string {
	t.Helper()
	root, err := repository()
	if err != nil {
		t.Fatalf("the path of %s: %v", name, err)
	}
	return filepath.Join(root, filepath.FromSlash(name))
}

// repository is the nearest folder above the working directory with a go.mod: go test runs a package's tests in its
// folder.
func repository() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod in %s or above it", start)
		}
	}
}
