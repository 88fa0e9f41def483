package programs

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers every connection with what it was sent, until the test ends.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends when the proxy, which the test stops, closes the connection
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// What goes through the proxy arrives whole, in order and not earlier than the delay.
func TestProxy(t *testing.T) {
	const delay = 20 * time.Millisecond
	p, err := StartProxy(t.Context(), echo(t), delay)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	conn := dial(t, p.Addr)
	sent := make([]byte, 300<<10)
	for i := range sent {
		sent[i] = byte(i / 1000)
	}
	began := time.Now()
	writing := make(chan struct{})
	go func() {
		defer close(writing)
		_, _ = conn.Write(sent)
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	<-writing
	if took := time.Since(began); took < 2*delay {
		t.Errorf("there and back took %s, less than twice %s", took, delay)
	}
	if string(got) != string(sent) {
		t.Error("other bytes came back")
	}
}

// A frozen proxy keeps what it is sent until it is thawed; one that refuses closes its connections and takes no more.
func TestProxyFreezesAndRefuses(t *testing.T) {
	p, err := StartProxy(t.Context(), echo(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	conn := dial(t, p.Addr)
	answers := bufio.NewReader(conn)
	p.Freeze()
	if _, err := conn.Write([]byte("1\n")); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if line, err := answers.ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a frozen proxy answers with %q, %v", line, err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	p.Thaw()
	if line, err := answers.ReadString('\n'); line != "1\n" || err != nil {
		t.Errorf("after it was thawed came %q, %v", line, err)
	}
	p.Refuse()
	if _, err := answers.ReadByte(); err == nil {
		t.Error("a connection is open although the proxy refuses")
	}
	if c, err := net.Dial("tcp", p.Addr); err == nil {
		c.Close()
		t.Error("the proxy accepts a connection although it refuses")
	}
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := dial(t, p.Addr)
	if _, err := again.Write([]byte("2\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(again).ReadString('\n'); line != "2\n" || err != nil {
		t.Errorf("after it accepts again came %q, %v", line, err)
	}
}
