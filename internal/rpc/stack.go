package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"connectrpc.com/connect"

	"github.com/runqy/runqy-worker/internal/health"
	runqyv1 "github.com/runqy/runqy-worker/proto/runqy/v1"
	"github.com/runqy/runqy-worker/proto/runqy/v1/runqyv1connect"
)

// Stack is where a worker's Python process was when it was asked.
type Stack struct {
	WorkerID string
	PID      int
	Where    string // the innermost line of a handler; empty: none runs, or the process did not say
	Text     string // the stacks of all threads and asyncio tasks, and what the kernel says
}

// The errors of a Stack that are told apart.
var (
	ErrNotFound    = errors.New("the Python process does not have the task")
	ErrNoStack     = errors.New("no Python process to ask")
	ErrOtherWorker = errors.New("another worker answers there")
)

// Stack implements runqyv1connect.WorkerServiceHandler.
func (s service) Stack(ctx context.Context, req *runqyv1.StackRequest) (*runqyv1.StackResponse, error) {
	if !health.MaySee(ctx) {
		return nil, connect.NewError(connect.CodePermissionDenied, errors.New(
			"stacks are shown to those who may see what tasks carry: ask on the worker's machine, or as a user of health.web_config"))
	}
	if s.stack == nil {
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("this process runs no Python process"))
	}
	if id := s.ping().WorkerID; req.GetWorkerId() != "" && req.GetWorkerId() != id {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("this is the worker %s", id))
	}
	stack, err := s.stack(ctx, req.GetTaskId())
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, connect.NewError(connect.CodeNotFound, err)
	case errors.Is(err, ErrNoStack):
		return nil, connect.NewError(connect.CodeUnavailable, err)
	case err != nil:
		return nil, err
	}
	return &runqyv1.StackResponse{
		WorkerId: utf8(stack.WorkerID), Pid: uint32(max(stack.PID, 0)), Where: utf8(stack.Where), Text: utf8(stack.Text),
	}, nil
}

// Stack asks the worker at host:port where its Python process is; taskID may be empty. Every error is a *[Failure].
func (c *Client) Stack(ctx context.Context, address, workerID, taskID string) (Stack, error) {
	base, err := c.base(address)
	if err != nil {
		return Stack{}, &Failure{Kind: KindOther, Address: address, Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	stack, err := askStack(ctx, c.http, base, workerID, taskID)
	return stack, stackFailure(address, err)
}

// StackAt asks the worker behind a unix socket, which only its own user can reach, as [Client.Stack] does. It takes no
// longer than ctx.
func StackAt(ctx context.Context, socket, workerID, taskID string) (Stack, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}
	defer transport.CloseIdleConnections()
	stack, err := askStack(ctx, &http.Client{Transport: transport}, "http://worker", workerID, taskID)
	return stack, stackFailure(socket, err)
}

func stackFailure(address string, err error) error {
	if err == nil {
		return nil
	}
	f := failure(address, err)
	f.doing = "stack of"
	return f
}

func askStack(ctx context.Context, client connect.HTTPClient, base, workerID, taskID string) (Stack, error) {
	worker := runqyv1connect.NewWorkerServiceClient(client, base, connect.WithReadMaxBytes(maxAnswer))
	answer, err := worker.Stack(ctx, &runqyv1.StackRequest{WorkerId: workerID, TaskId: taskID})
	switch {
	case connect.CodeOf(err) == connect.CodeFailedPrecondition:
		return Stack{}, fmt.Errorf("%w: %w", ErrOtherWorker, plain(err))
	case err != nil:
		return Stack{}, err
	}
	return Stack{WorkerID: answer.GetWorkerId(), PID: int(answer.GetPid()), Where: answer.GetWhere(), Text: answer.GetText()}, nil
}
