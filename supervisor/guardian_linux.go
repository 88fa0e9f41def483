package supervisor

import "syscall"

// guardianAttr puts the guardian into a session of its own, out of reach of
// the terminal's and the worker's group.
func guardianAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
