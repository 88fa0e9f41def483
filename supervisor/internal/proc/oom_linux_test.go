package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestOOMCounter(t *testing.T) {
	v2 := fmt.Sprint(oomFiles("0::/system.slice/worker.service\n"))
	if want := "[/sys/fs/cgroup/system.slice/worker.service/memory.events /sys/fs/cgroup/memory.events]"; v2 != want {
		t.Errorf("files of cgroup v2: %s, want %s", v2, want)
	}
	v1 := oomFiles("9:name=systemd:/\n4:memory:/docker/abc\n0::/\n")
	if v1[0] != "/sys/fs/cgroup/memory/docker/abc/memory.oom_control" || len(v1) != 4 {
		t.Errorf("files of cgroup v1: %v, want those of docker/abc first, four in all", v1)
	}
	file := filepath.Join(t.TempDir(), "memory.events")
	if _, ok := oomCounter(file).read(); ok {
		t.Error("a file that is not there was read")
	}
	if err := os.WriteFile(file, []byte("low 0\noom 3\noom_kill 2\noom_group_kill 9\n"), 0o600); err != nil {
		t.Fatalf("write %s: %v", file, err)
	}
	if n, ok := oomCounter(file).read(); n != 2 || !ok {
		t.Errorf("read %d, %v; want 2 kills", n, ok)
	}
}
