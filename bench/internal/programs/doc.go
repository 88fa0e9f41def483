// Package programs has what the benches share: they start and stop the programs that they look at, among them Redis, put
// a proxy in front of it, and say on which machine they ran.
package programs
