// Package proc starts, watches and kills processes. Everything that depends on the operating system stands here:
// process groups, the death of the parent, process trees, pipes, the OOM killer, CPU time and memory. It knows nothing
// of the protocol that a process speaks.
//
// On Linux all of it works. On other Unix systems a process is killed with its group but not with descendants that left
// the group, a zombie is reaped at once, and neither CPU time nor memory is known. Elsewhere only the process itself is
// reached.
package proc
