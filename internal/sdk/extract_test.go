package sdk

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/runqy/runqy-worker/python"
)

func TestSDKHoldsEveryFile(t *testing.T) {
	const source = "../../python"
	paths, err := filepath.Glob(filepath.Join(source, "runqy", "*.py"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("source files in %s/runqy: got %d and error %v, want at least one", source, len(paths), err)
	}
	for _, path := range append(paths, filepath.Join(source, "runqy", "py.typed")) {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := "runqy/" + filepath.Base(path)
		got, err := fs.ReadFile(python.SDK(), name)
		if err != nil || string(got) != string(want) {
			t.Errorf("embedded %s: got %d bytes and error %v, want the %d bytes of %s", name, len(got), err, len(want), path)
		}
	}
}

func TestExtractedSDKCanBeImported(t *testing.T) {
	interpreter, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not on PATH")
	}
	dir, err := Extract(filepath.Join(t.TempDir(), "base"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(interpreter, "-c", "import runqy; print(runqy.__file__)")
	cmd.Dir = t.TempDir() // an empty one, so that only PYTHONPATH leads to the package
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), dir) {
		t.Fatalf("import of runqy: got %q and error %v, want its file below %s", out, err, dir)
	}
}

func TestExtractAtOnce(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	var wg sync.WaitGroup
	dirs := make([]string, 8)
	for i := range dirs {
		wg.Go(func() {
			dir, err := Extract(base)
			if err != nil {
				t.Errorf("Extract(%q) beside others: got error %v, want none", base, err)
				return
			}
			// Complete as soon as Extract returns, whatever the others are doing.
			assertComplete(t, dir)
			dirs[i] = dir
		})
	}
	wg.Wait()
	for _, dir := range dirs {
		if dir != dirs[0] {
			t.Errorf("directory: got %q, want that of the first call, %q", dir, dirs[0])
		}
	}
	left, err := filepath.Glob(filepath.Join(dirs[0], "runqy", ".new-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("temporary files left: got %v and error %v, want none", left, err)
	}
}

func TestExtractRepairs(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	dir, err := Extract(base)
	if err != nil {
		t.Fatal(err)
	}
	changed := filepath.Join(dir, "runqy", "__init__.py")
	if err := os.Remove(filepath.Join(dir, "runqy", "_wire.py")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(changed, []byte("raise SystemExit"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Extract(base); err != nil {
		t.Fatal(err)
	}
	assertComplete(t, dir)
}

func TestExtractWritesNothingWhenComplete(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	dir, err := Extract(base)
	if err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	if _, err := Extract(base); err != nil {
		t.Fatal(err)
	}
	after := snapshot(t, dir)
	for name, info := range before {
		if !os.SameFile(info, after[name]) {
			t.Errorf("%s: got a new file from the second Extract, want the one of the first", name)
		}
	}
}

func TestExtractRefuses(t *testing.T) {
	t.Run("a directory that others can write", func(t *testing.T) {
		base := filepath.Join(t.TempDir(), "base")
		if err := os.Mkdir(base, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(base, 0o777); err != nil {
			t.Fatal(err)
		}
		if _, err := Extract(base); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
			t.Errorf("Extract into a directory that others can write: got error %v, want one that says chmod go-w", err)
		}
	})
	t.Run("a file in the way", func(t *testing.T) {
		base := filepath.Join(t.TempDir(), "base")
		if err := os.WriteFile(base, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Extract(base); err == nil || !strings.Contains(err.Error(), base) {
			t.Errorf("Extract where a file has the directory's name: got error %v, want one that names %s", err, base)
		}
	})
	t.Run("a read-only directory", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("root may write everywhere")
		}
		base := t.TempDir()
		if err := os.Chmod(base, 0o555); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(base, 0o755) })
		if _, err := Extract(base); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), base) {
			t.Errorf("Extract into a read-only directory: got error %v, want a permission error that names %s", err, base)
		}
	})
}

func TestExtractDefault(t *testing.T) {
	cache, temp := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temp)
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("HOME", cache)
	dir, err := Extract("")
	if err != nil || !strings.HasPrefix(dir, cache) {
		t.Fatalf("Extract(\"\") = %q, %v; want a directory below %s", dir, err, cache)
	}

	// A file where the cache directory should be: the temporary directory is next.
	blocked := filepath.Join(cache, "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", blocked)
	t.Setenv("HOME", blocked)
	dir, err = Extract("")
	if err != nil || !strings.HasPrefix(dir, temp) {
		t.Fatalf("Extract(\"\") = %q, %v; want a directory below %s", dir, err, temp)
	}

	t.Setenv("TMPDIR", blocked)
	if _, err = Extract(""); err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("Extract(\"\") without a writable directory: got error %v, want one that names TMPDIR", err)
	}
}

func assertComplete(t *testing.T, dir string) {
	t.Helper()
	names, _, err := manifest(python.SDK())
	if err != nil {
		t.Errorf("list of the embedded files: got error %v, want none", err)
	}
	for _, name := range names {
		want, err := fs.ReadFile(python.SDK(), name)
		if err != nil {
			t.Errorf("embedded %s: got error %v, want its content", name, err)
		}
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s: got %d bytes and error %v, want the %d embedded bytes", name, len(got), err, len(want))
		}
	}
}

func snapshot(t *testing.T, dir string) map[string]os.FileInfo {
	t.Helper()
	files := map[string]os.FileInfo{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		files[path] = info
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
