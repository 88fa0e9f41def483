package health

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	// maxSocketPath is what every system allows for the path of a unix socket.
	maxSocketPath = 103
	// socketDialTimeout bounds the question whether a socket is live.
	socketDialTimeout = time.Second
)

// listenUnix listens on a unix socket that only this user can reach. A socket that nobody listens on any more is
// replaced, one that is live refused, and anything that is not a socket left alone.
func listenUnix(path string) (*socketListener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("unix socket path %q has %d bytes, the system allows %d: set health.socket to a shorter one",
			path, len(path), maxSocketPath)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the directory of the unix socket (health.socket): %w", err)
	}
	if err := clearSocket(path); err != nil {
		return nil, err
	}
	// Bound under a name that nobody knows, so that the socket never stands under its own with wider permissions.
	var random [4]byte
	rand.Read(random[:]) // never fails
	hidden := filepath.Join(dir, "."+hex.EncodeToString(random[:]))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on the unix socket %s (health.socket): %w", path, err)
	}
	l.SetUnlinkOnClose(false) // it would look for the hidden name
	s := &socketListener{UnixListener: l, path: path}
	if err := s.publish(hidden); err != nil {
		_ = l.Close()
		_ = os.Remove(hidden)
		return nil, fmt.Errorf("set up the unix socket %s (health.socket): %w", path, err)
	}
	return s, nil
}

// clearSocket removes a stale socket from path.
func clearSocket(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the unix socket (health.socket): %w", err)
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s is there already and is not a socket: remove it, or set health.socket to another path", path)
	}
	dialer := net.Dialer{Timeout: socketDialTimeout}
	conn, err := dialer.DialContext(context.Background(), "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return fmt.Errorf("another live worker listens on the unix socket %s: stop it, or set health.socket (or worker.id) to something else", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the stale unix socket: %w", err)
		}
		return nil
	case errors.Is(err, fs.ErrNotExist): // its owner has just removed it
		return nil
	}
	return fmt.Errorf("find out whether the unix socket %s (health.socket) is live: %w", path, err)
}

// socketListener removes its socket when it is closed, unless somebody has put another in its place.
type socketListener struct {
	*net.UnixListener
	path string
	self fs.FileInfo
	once sync.Once // a second Close could find a successor with a reused inode
	err  error     // of the first Close
}

func (s *socketListener) publish(hidden string) error {
	if err := os.Chmod(hidden, 0o600); err != nil {
		return err
	}
	info, err := os.Lstat(hidden)
	if err != nil {
		return err
	}
	s.self = info
	return os.Rename(hidden, s.path)
}

// Close stops listening and removes the socket; closing twice is harmless.
func (s *socketListener) Close() error {
	s.once.Do(func() {
		s.err = s.UnixListener.Close()
		if info, err := os.Lstat(s.path); err == nil && os.SameFile(info, s.self) {
			s.err = errors.Join(s.err, os.Remove(s.path))
		}
	})
	return s.err
}
