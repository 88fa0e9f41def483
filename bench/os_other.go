//go:build !linux

package main

import (
	"syscall"
	"time"
)

func dieWithParent() *syscall.SysProcAttr { return nil }

func sleepExactly(d time.Duration) { time.Sleep(d) }
