//go:build !linux

package test

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
