//go:build unix

package sdk

import (
	"fmt"
	"os"
	"syscall"
)

// checkPermissions refuses a directory whose content another user could change.
func checkPermissions(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory; remove it", dir)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	// Root's directories are as trustworthy as the interpreter itself: an image may be filled while it is built.
	if ok && stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, not to this worker's user %d; remove it or choose another directory",
			dir, stat.Uid, os.Geteuid())
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s can be written by other users (mode %#o); remove their permission with chmod go-w",
			dir, info.Mode().Perm())
	}
	return nil
}
