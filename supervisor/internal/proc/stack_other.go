//go:build !linux

package proc

import "os"

func (*Process) makeStackPipe(int) (*os.File, error) { return nil, nil }

// SignalStacks has no signal that is safe to send where the system does not tell whether the process catches it.
func (*Process) SignalStacks(int) (writing func() bool, err error) { return nil, ErrNoStacks }

// KernelState says nothing where the system does not tell.
func KernelState(int) (text string, ok bool) { return "", false }
