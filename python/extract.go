package python

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Extract makes sure that the SDK's files exist in a directory below base and returns that directory's absolute path,
// to be put on the child's PYTHONPATH.
//
// The directory's name carries a hash of the files' content, so that workers of different versions do not share one,
// and workers of the same version do. Any number of processes may call Extract at once: every file is written under
// another name and renamed, and all of them are compared with the embedded ones before Extract returns. It writes
// nothing when they are all there, so that base may be read-only once it has been filled, and it restores what a cleaner
// of temporary files has removed: call it before each start of a child.
//
// An empty base means the user's cache directory or, where that cannot be written, the directory for temporary files.
// A directory that another user owns or can write to is refused, since its content would be run as code. When no
// directory can be used the error says which were tried and why each failed.
func Extract(base string) (string, error) {
	if base != "" {
		return extract(base)
	}
	var faults []error
	for _, candidate := range defaultBases() {
		dir, err := extract(candidate)
		if err == nil {
			return dir, nil
		}
		faults = append(faults, err)
	}
	return "", fmt.Errorf("no directory for the Python SDK (set TMPDIR or XDG_CACHE_HOME to a writable one): %w", errors.Join(faults...))
}

func defaultBases() []string {
	var bases []string
	if cache, err := os.UserCacheDir(); err == nil {
		bases = append(bases, filepath.Join(cache, "runqy"))
	}
	// The temporary directory is shared by all users: one directory for each.
	return append(bases, filepath.Join(os.TempDir(), fmt.Sprintf("runqy-%d", os.Getuid())))
}

func extract(base string) (string, error) {
	base, err := filepath.Abs(base)
	if err != nil {
		return "", fmt.Errorf("extract the Python SDK to %s: %w", base, err)
	}
	names, hash, err := manifest(sdk)
	if err != nil {
		return "", err
	}
	root := filepath.Join(base, "sdk-"+hash)
	pkg := filepath.Join(root, "runqy")
	if err := os.MkdirAll(pkg, 0o755); err != nil {
		return "", fmt.Errorf("extract the Python SDK to %s: %w", base, err)
	}
	for _, dir := range []string{base, root, pkg} {
		if err := checkOwn(dir); err != nil {
			return "", fmt.Errorf("extract the Python SDK to %s: %w", base, err)
		}
	}
	for _, name := range names {
		content, err := fs.ReadFile(sdk, name)
		if err != nil {
			return "", fmt.Errorf("read the embedded %s: %w", name, err)
		}
		if err := ensure(filepath.Join(root, filepath.FromSlash(name)), content); err != nil {
			return "", fmt.Errorf("extract the Python SDK to %s: %w", base, err)
		}
	}
	return root, nil
}

// manifest lists the files in order and hashes names and contents.
func manifest(files fs.FS) (names []string, hash string, err error) {
	sum := sha256.New()
	err = fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		names = append(names, name)
		fmt.Fprintf(sum, "%s\x00%d\x00%s", name, len(content), content)
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("list the embedded Python SDK: %w", err)
	}
	return names, hex.EncodeToString(sum.Sum(nil))[:16], nil
}

// ensure leaves a regular file with this content at path, replacing anything else there in one step.
func ensure(path string, content []byte) error {
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o022 == 0 {
		if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, content) {
			return nil
		}
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // fails, as it should, once the file has been renamed
	_, err = temp.Write(content)
	if err == nil {
		err = temp.Chmod(0o644)
	}
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
