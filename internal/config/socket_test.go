package config

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestSocketPath(t *testing.T) {
	long := strings.Repeat("x", 100)
	temp := filepath.Join("/var/tmp", "runqy-worker-"+strconv.Itoa(os.Getuid()))
	for _, tc := range []struct {
		name, file string
		env        []string
		want       string
	}{
		{"configured", "health: {socket: /tmp/x.sock}", []string{"RUNTIME_DIRECTORY=/run/a"}, "/tmp/x.sock"},
		{"systemd", "", []string{"RUNTIME_DIRECTORY=/run/a:/run/b", "XDG_RUNTIME_DIR=/run/u"}, "/run/a/port-8001.sock"},
		{"session", "worker: {id: w1}", []string{"XDG_RUNTIME_DIR=/run/u"}, "/run/u/w1.sock"},
		{"no port", `health: {listen: "127.0.0.1:0"}`, []string{"XDG_RUNTIME_DIR=/run/u"}, "/run/u/worker.sock"},
		{"no server", `health: {listen: ""}`, []string{"XDG_RUNTIME_DIR=/run/u"}, "/run/u/worker.sock"},
		{"temporary", "worker: {id: w1}", []string{"TMPDIR=/var/tmp"}, temp + "/w1.sock"},
	} {
		if tc.name == "temporary" {
			if _, err := os.Stat("/run/runqy-worker"); err == nil {
				continue // a worker is installed on this machine
			}
		}
		if got := load(t, tc.file, tc.env, nil).SocketPath(); got != tc.want {
			t.Errorf("%s: the socket is %s, want %s", tc.name, got, tc.want)
		}
	}
	for _, dir := range []string{"/run/u", "/" + long} {
		first := load(t, "worker: {id: "+long+"}", []string{"XDG_RUNTIME_DIR=" + dir}, nil).SocketPath()
		again := load(t, "worker: {id: "+long+"}", []string{"XDG_RUNTIME_DIR=" + dir}, nil).SocketPath()
		other := load(t, "worker: {id: "+long+"y}", []string{"XDG_RUNTIME_DIR=" + dir}, nil).SocketPath()
		if len(first) > 104 || first != again || first == other {
			t.Errorf("long names give %q, %q again and %q for another id, want at most 104 bytes, the same and another", first, again, other)
		}
	}
}
