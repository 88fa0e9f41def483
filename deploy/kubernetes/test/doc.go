// Package test holds what deploy/kubernetes ships against the API's own types, and against the program. It is a module
// of its own, so that nobody who uses the program downloads Kubernetes.
package test
