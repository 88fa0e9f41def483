package config

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSocketPath is what every system we know takes, without the closing NUL.
const maxSocketPath = 103

// SocketPath is the unix socket of the health server, which the worker listens on and the healthcheck asks. Both derive
// it from the same configuration: health.socket, or a file in the run-time directory that is named after the configured
// worker id, else after the fixed port of health.listen, else worker.sock.
func (c *Config) SocketPath() string {
	if c.Health.Socket != "" {
		return c.Health.Socket
	}
	name := "worker"
	if c.Worker.IDSet {
		name = c.Worker.ID
	} else if port, err := splitAddress(c.Health.Listen); err == nil && port != 0 {
		name = "port-" + strconv.Itoa(port)
	}
	return c.socketNamed(name)
}

// SocketPaths are the unix sockets at which a worker with this id may be found on this machine: that of this
// configuration, and that of a worker whose configuration has the id.
func (c *Config) SocketPaths(id string) []string {
	paths := []string{c.SocketPath()}
	if idPattern.MatchString(id) && len(id) <= maxName {
		if path := c.socketNamed(id); path != paths[0] {
			paths = append(paths, path)
		}
	}
	return paths
}

func (c *Config) socketNamed(name string) string {
	dir := c.runtimeDir
	if dir == "" {
		dir = privateTempDir(os.TempDir())
	}
	path := filepath.Join(dir, name+".sock")
	if len(path) <= maxSocketPath {
		return path
	}
	sum := sha256.Sum256([]byte(path))
	short := hex.EncodeToString(sum[:8]) + ".sock"
	if path = filepath.Join(dir, short); len(path) <= maxSocketPath {
		return path
	}
	return filepath.Join(privateTempDir("/tmp"), short)
}

// runtimeDir is where a service keeps its sockets: what systemd or the login session says, else /run/runqy-worker where
// it can be written, else a directory of this user's in the temporary one.
func runtimeDir(lookup func(string) (string, bool)) string {
	if dirs, _ := lookup("RUNTIME_DIRECTORY"); dirs != "" {
		dir, _, _ := strings.Cut(dirs, ":")
		return dir
	}
	if dir, _ := lookup("XDG_RUNTIME_DIR"); dir != "" {
		return dir
	}
	const system = "/run/runqy-worker"
	if unix.Access(system, unix.W_OK|unix.X_OK) == nil {
		return system
	}
	if dir, _ := lookup("TMPDIR"); dir != "" {
		return privateTempDir(dir)
	}
	return privateTempDir("/tmp")
}

func privateTempDir(base string) string {
	return filepath.Join(base, "runqy-worker-"+strconv.Itoa(os.Getuid()))
}
