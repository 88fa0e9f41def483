package main

import (
	"fmt"
	"io"
)

func printResults(w io.Writer, r *results) error {
	_, err := fmt.Fprintln(w, len(r.Records))
	return err
}

func writePage(string, *results) error { return nil }
