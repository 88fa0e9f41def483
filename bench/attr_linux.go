package main

import "syscall"

// dieWithParent lets no process outlive a bench that was killed.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
