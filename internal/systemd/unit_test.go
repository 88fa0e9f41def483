package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/runqy/runqy-worker/internal/config"
)

const unitFile = "../../deploy/systemd/runqy-worker.service"

// directives reads the shipped unit: "Section.Key" to its values in their order.
func directives(t *testing.T) map[string][]string {
	t.Helper()
	file, err := os.Open(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	sections, err := unit.DeserializeSections(file)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]string)
	for _, s := range sections {
		for _, e := range s.Entries {
			all[s.Section+"."+e.Name] = append(all[s.Section+"."+e.Name], e.Value)
		}
	}
	return all
}

// known are the directives that the shipped unit may have, so that a misspelt one is found without systemd too.
var known = []string{
	"Unit.After", "Unit.Description", "Unit.Documentation", "Unit.StartLimitBurst", "Unit.StartLimitIntervalSec", "Unit.Wants",
	"Service.AmbientCapabilities", "Service.CacheDirectory", "Service.CacheDirectoryMode", "Service.CapabilityBoundingSet",
	"Service.DynamicUser", "Service.Environment", "Service.EnvironmentFile", "Service.ExecReload", "Service.ExecStart",
	"Service.KeyringMode", "Service.KillMode", "Service.LockPersonality", "Service.NoNewPrivileges", "Service.NotifyAccess",
	"Service.OOMPolicy", "Service.PrivateDevices", "Service.PrivateTmp", "Service.ProtectClock", "Service.ProtectControlGroups",
	"Service.ProtectHome", "Service.ProtectHostname", "Service.ProtectKernelLogs", "Service.ProtectKernelModules",
	"Service.ProtectKernelTunables", "Service.ProtectProc", "Service.ProtectSystem", "Service.RemoveIPC", "Service.Restart",
	"Service.RestartPreventExitStatus", "Service.RestartSec", "Service.RestrictAddressFamilies", "Service.RestrictNamespaces",
	"Service.RestrictRealtime", "Service.RestrictSUIDSGID", "Service.RuntimeDirectory", "Service.RuntimeDirectoryMode",
	"Service.SystemCallArchitectures", "Service.SystemCallErrorNumber", "Service.SystemCallFilter", "Service.TimeoutStartSec",
	"Service.TimeoutStopSec", "Service.Type", "Service.UMask", "Service.User", "Service.WatchdogSec", "Service.WorkingDirectory",
	"Install.WantedBy",
}

func TestShippedUnit(t *testing.T) {
	have := directives(t)
	for name := range have {
		if !slices.Contains(known, name) {
			t.Errorf("%s is not known here: misspelt, or missing in the list", name)
		}
	}
	for name, want := range map[string]string{
		"Service.Type":         "notify",
		"Service.NotifyAccess": "main",  // not whatever the tasks start
		"Service.KillMode":     "mixed", // SIGTERM to the Python process would be a crash
		"Service.OOMPolicy":    "continue",
		"Service.Restart":      "on-failure",
		// cmd/runqy-worker's exit code for a wrong configuration; 70 must be restarted.
		"Service.RestartPreventExitStatus": "2",
		"Service.RuntimeDirectoryMode":     "0700",
		"Service.ExecReload":               "/bin/kill -HUP $MAINPID",
		"Service.RestrictAddressFamilies":  "AF_UNIX AF_INET AF_INET6",
	} {
		if got := have[name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	duration := func(name string) time.Duration {
		d, err := time.ParseDuration(strings.Join(have[name], ""))
		if err != nil {
			t.Errorf("%s is no duration: %v", name, err)
		}
		return d
	}
	defaults := config.Default()
	if stop, drain := duration("Service.TimeoutStopSec"), defaults.Worker.ShutdownTimeout+defaults.Python.StopTimeout; stop <= drain {
		t.Errorf("TimeoutStopSec is %v, want more than the %v that a drain may take", stop, drain)
	}
	if start := duration("Service.TimeoutStartSec"); start <= 2*maxTick {
		t.Errorf("TimeoutStartSec is %v, and more time is asked for every %v only", start, maxTick)
	}
	// /livez reports a blocked loop after ten seconds; a shorter watchdog would contradict it.
	if watchdog := duration("Service.WatchdogSec"); watchdog <= 10*time.Second {
		t.Errorf("WatchdogSec is %v, want more than the ten seconds of /livez", watchdog)
	}
}

// analyzable copies the unit so that systemd-analyze finds its program, under its own name and as a template.
func analyzable(t *testing.T) (files []string) {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("RUNQY_TEST_REQUIRE") != "" {
			t.Fatal("systemd-analyze is missing; Debian has it in the package systemd")
		}
		t.Skip("systemd-analyze is missing; Debian has it in the package systemd")
	}
	text, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/runqy-worker run$`).ReplaceAllLiteral(text, []byte("ExecStart="+self))
	dir := t.TempDir()
	for _, name := range []string{"runqy-worker.service", "runqy-worker@a.service"} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

func TestSystemdAnalyzeVerify(t *testing.T) {
	for _, file := range analyzable(t) {
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", filepath.Base(file), err, out)
		}
	}
}

// The rating goes from 0 to 10; below 2 is what systemd calls OK.
func TestSystemdAnalyzeSecurity(t *testing.T) {
	file := analyzable(t)[0]
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", file).CombinedOutput()
	if strings.Contains(string(out), "unrecognized option") {
		t.Skip("this systemd is older than 250 and rates no files")
	}
	if err != nil {
		t.Errorf("systemd-analyze fails: %v\n%s", err, out)
	}
	t.Logf("%s", out[max(0, len(out)-100):])
}
