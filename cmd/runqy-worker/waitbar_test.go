package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/runqy/runqy-worker/client"
)

func TestWaitBar(t *testing.T) {
	var out bytes.Buffer
	b := &waitBar{out: &out, columns: 80}
	written := func(p client.Progress) string {
		out.Reset()
		b.show(p)
		return out.String()
	}
	for _, step := range []struct {
		progress client.Progress
		want     []string
	}{
		{client.Progress{Fraction: 0.4, Message: "epoch 4"}, []string{"epoch 4", " 40% |"}},
		{client.Progress{Fraction: 0.4, Message: "epoch\x1b[2J 5"}, []string{"epoch[2J 5"}},
		{client.Progress{Fraction: 1, Message: strings.Repeat("x", 200)}, []string{strings.Repeat("x", 24) + " 100%"}},
		{client.Progress{Fraction: 1, Message: "done"}, []string{"done", "100%"}},
		{client.Progress{Fraction: 0.2, Message: "again"}, []string{"again", " 20%"}},
		{client.Progress{Fraction: -1, Message: "words only"}, []string{"words only"}},
		{client.Progress{Fraction: -1}, []string{"\r"}},
		{client.Progress{Fraction: 0.5}, []string{" 50%"}},
	} {
		got := written(step.progress)
		for _, want := range step.want {
			if !strings.Contains(got, want) {
				t.Errorf("%+v wrote %q, want %q in it", step.progress, got, want)
			}
		}
		if strings.ContainsAny(got, "\n\x1b") {
			t.Errorf("%+v wrote %q, which is not one line", step.progress, got)
		}
	}
	out.Reset()
	b.clear()
	if !strings.HasSuffix(out.String(), "\r") || strings.Trim(out.String(), "\r ") != "" {
		t.Errorf("the end writes %q, want the line erased", out.String())
	}
	if newWaitBar(&out) != nil {
		t.Error("there is a bar without a terminal")
	}
	(*waitBar)(nil).clear()
}
