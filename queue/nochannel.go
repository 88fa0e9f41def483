package queue

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// noChannel is a client whose subscriptions never bring a message and need no connection to Redis. asynq's server
// insists on a subscription to asynq:cancel and panics when it ends, but starts no task that could be cancelled.
type noChannel struct {
	*redis.Client
	answering sync.WaitGroup // one for each subscription, until it is closed
}

func newNoChannel() *noChannel {
	n := &noChannel{}
	n.Client = redis.NewClient(&redis.Options{
		Protocol: 2, DisableIdentity: true, MaxRetries: -1,
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			ours, its := net.Pipe()
			n.answering.Go(func() { answerSubscriber(ours) })
			return its, nil
		},
	})
	return n
}

// close waits for the end of the subscriptions, which must be closed.
func (n *noChannel) close() {
	_ = n.Client.Close()
	n.answering.Wait()
}

// answerSubscriber answers what a subscriber asks in Redis' protocol, until the connection is closed.
func answerSubscriber(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	for {
		command, err := readCommand(r)
		if err != nil {
			return
		}
		answer := "-ERR unknown command\r\n"
		switch {
		case len(command) > 1 && strings.EqualFold(command[0], "subscribe"):
			answer = fmt.Sprintf("*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n", len(command[1]), command[1])
		case len(command) > 0 && strings.EqualFold(command[0], "ping"):
			answer = "*2\r\n$4\r\npong\r\n$0\r\n\r\n"
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}

// readCommand reads one command: an array of bulk strings.
func readCommand(r *bufio.Reader) ([]string, error) {
	var count, size int
	if _, err := fmt.Fscanf(r, "*%d\r\n", &count); err != nil {
		return nil, fmt.Errorf("read a command: %w", err)
	}
	command := make([]string, 0, min(count, 16))
	for range count {
		if _, err := fmt.Fscanf(r, "$%d\r\n", &size); err != nil {
			return nil, fmt.Errorf("read a command: %w", err)
		}
		text := make([]byte, size+len("\r\n"))
		if _, err := io.ReadFull(r, text); err != nil {
			return nil, fmt.Errorf("read a command: %w", err)
		}
		command = append(command, string(text[:size]))
	}
	return command, nil
}
