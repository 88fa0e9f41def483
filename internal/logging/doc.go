// Package logging has the log of a process that must not wait for whoever reads it. A line is put into a queue with a
// bound, and one goroutine writes the queue to the destination. What finds the queue full is dropped and counted, and
// when lines flow again the log says how many are missing.
package logging
