// Package sdk writes the Python SDK, which the program carries in itself, to a directory on disk.
package sdk

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/runqy/runqy-worker/python"
)

// Extract makes sure that the SDK's files exist in a directory below base. It returns the absolute path of that
// directory, which belongs on the PYTHONPATH of the Python process.
//
// The directory's name carries a hash of the files' content: workers of the same version share it, and workers of
// different versions do not. Any number of processes may call Extract at once, since every file is written under
// another name and then renamed, and every file is compared with the embedded one before Extract returns. It writes
// nothing when all files are there, so base may be read-only once it has been filled. It restores what a cleaner of
// temporary files has removed; call it before each start of the worker.
//
// An empty base means the user's cache directory or, where that cannot be written, the directory for temporary files.
// Extract refuses a directory that another user owns or can write to, since its content is run as code. When no
// directory can be used, the error says which were tried and why each failed.
func Extract(base string) (string, error) {
	if base != "" {
		return extract(base)
	}
	var failures []error
	for _, candidate := range defaultBases() {
		dir, err := extract(candidate)
		if err == nil {
			return dir, nil
		}
		failures = append(failures, err)
	}
	return "", fmt.Errorf("no directory for the Python SDK (set TMPDIR or XDG_CACHE_HOME to a writable one): %w",
		errors.Join(failures...))
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
	files := python.SDK()
	names, hash, err := manifest(files)
	if err != nil {
		return "", err
	}
	root := filepath.Join(base, "sdk-"+hash)
	pkg := filepath.Join(root, "runqy")
	if err := os.MkdirAll(pkg, 0o755); err != nil {
		return "", fmt.Errorf("extract the Python SDK to %s: %w", base, err)
	}
	for _, dir := range []string{base, root, pkg} {
		if err := checkPermissions(dir); err != nil {
			return "", fmt.Errorf("extract the Python SDK to %s: %w", base, err)
		}
	}
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return "", fmt.Errorf("read the embedded %s: %w", name, err)
		}
		if err := writeFile(filepath.Join(root, filepath.FromSlash(name)), content); err != nil {
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

// writeFile leaves a regular file with this content at path. Anything else there is replaced in one step; a file that
// is right already is not written again.
func writeFile(path string, content []byte) error {
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o022 == 0 {
		if present, err := os.ReadFile(path); err == nil && bytes.Equal(present, content) {
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
