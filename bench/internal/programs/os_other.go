//go:build !linux

package programs

import (
	"syscall"
	"time"
)

func DieWithParent() *syscall.SysProcAttr { return nil }

func sleepExactly(d time.Duration) { time.Sleep(d) }
