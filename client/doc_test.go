package client_test

import (
	"os"
	"strings"
	"testing"
)

// The program in the package comment is the one in examples/, which is compiled.
func TestPackageCommentShowsTheExample(t *testing.T) {
	program, err := os.ReadFile("../examples/hello_client/main.go")
	if err != nil {
		t.Fatalf("read the example: %v", err)
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatalf("read the package comment: %v", err)
	}
	_, code, _ := strings.Cut(string(program), "\npackage main")
	var want strings.Builder
	for line := range strings.Lines("package main" + code) {
		want.WriteString(strings.TrimRight("//\t"+line, "\t\n") + "\n")
	}
	if !strings.Contains(string(doc), want.String()) {
		t.Errorf("doc.go does not have the program of examples/hello_client; it should have these lines:\n%s", want.String())
	}
}
