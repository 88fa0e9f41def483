package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestOOMCounter(t *testing.T) {
	v2 := oomFiles("0::/system.slice/worker.service\n")
	if fmt.Sprint(v2) != "[/sys/fs/cgroup/system.slice/worker.service/memory.events /sys/fs/cgroup/memory.events]" {
		t.Errorf("%v", v2)
	}
	v1 := oomFiles("9:name=systemd:/\n4:memory:/docker/abc\n0::/\n")
	if v1[0] != "/sys/fs/cgroup/memory/docker/abc/memory.oom_control" || len(v1) != 4 {
		t.Errorf("%v", v1)
	}
	file := filepath.Join(t.TempDir(), "memory.events")
	if _, ok := oomCounter(file).read(); ok {
		t.Error("a file that is not there was read")
	}
	if err := os.WriteFile(file, []byte("low 0\noom 3\noom_kill 2\noom_group_kill 9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, ok := oomCounter(file).read(); n != 2 || !ok {
		t.Errorf("%d %v", n, ok)
	}
}
