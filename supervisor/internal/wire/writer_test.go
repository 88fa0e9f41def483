package wire

import (
	"io"
	"os"
	"testing"
	"time"
)

func TestWriterHaltFreesABlockedWrite(t *testing.T) {
	r, f, err := os.Pipe()
	if err != nil {
		t.Fatalf("make a pipe: %v", err)
	}
	defer r.Close()
	defer f.Close()
	w := NewWriter(f)
	ended := make(chan error, 1)
	go func() { ended <- w.Run() }()
	w.Put(make([]byte, 8<<20))
	if start := w.Put([]byte("next\n")); start != 8<<20 {
		t.Errorf("the second line begins at %d, want %d", start, 8<<20)
	}
	if _, err := r.Read(make([]byte, 1)); err != nil { // it has begun
		t.Fatalf("read from the pipe: %v", err)
	}
	w.Halt()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Run returned %v after Halt, want nil", err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("Run did not return within 2 minutes of Halt")
	}
	if w.Sent() == 0 || w.Sent() >= 8<<20 {
		t.Errorf("sent %d bytes, want some but not all of %d", w.Sent(), 8<<20)
	}
}

func TestWriterFinishWritesWhatIsQueued(t *testing.T) {
	r, f, err := os.Pipe()
	if err != nil {
		t.Fatalf("make a pipe: %v", err)
	}
	defer r.Close()
	w := NewWriter(f)
	w.Put([]byte("one\n"))
	w.Put([]byte("two\n"))
	w.Finish()
	w.Put([]byte("dropped\n"))
	if err := w.Run(); err != nil {
		t.Fatalf("Run returned %v, want nil", err)
	}
	got, err := io.ReadAll(r)
	if err != nil || string(got) != "one\ntwo\n" || w.Sent() != int64(len(got)) {
		t.Errorf("the pipe has %q, Sent says %d, %v; want the two lines", got, w.Sent(), err)
	}
}
