package supervisor

import (
	"strings"
	"testing"
)

func TestNewNamesEveryFault(t *testing.T) {
	_, err := New(Options{OnCrash: "explode", StallTimeout: -1, MaxTasks: -1})
	if err == nil {
		t.Fatal("New took wrong options, want an error")
	}
	for _, want := range []string{"Command", "Concurrency", "StartupTimeout", "StopTimeout", "BlockThreshold", "StallTimeout",
		"MaxTasks", "MaxMessage", `"explode"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %s:\n%v", want, err)
		}
	}
	o := testOptions("echo_v1.py")
	o.OnCrash, o.Restart = PolicyRestart, RestartPolicy{Max: -1, MaxDelay: -1}
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "Restart.Max is -1") || !strings.Contains(err.Error(), "Restart.Window") {
		t.Errorf("wrong restart policy: %v, want Max and Window named", err)
	}
}
