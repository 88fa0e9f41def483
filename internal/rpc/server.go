package rpc

import (
	"context"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"

	runqyv1 "github.com/runqy/runqy-worker/proto/runqy/v1"
	"github.com/runqy/runqy-worker/proto/runqy/v1/runqyv1connect"
)

// The services that grpc.health.v1's Check knows.
const (
	ServiceAll    = ""                               // as GET /health
	ServiceWorker = runqyv1connect.WorkerServiceName // as GET /readyz
	ServiceLive   = "livez"                          // as GET /livez
)

// maxRequest bounds what is read of a request, in bytes; the longest names a worker and a task.
const maxRequest = 4 << 10

// Sources are what the services answer from. The functions are called from any goroutine and, Stack apart, must not
// block.
type Sources struct {
	// Ping answers a ping. Nil: there is no WorkerService.
	Ping func() Pong
	// Stack says where the Python process is. It may take a second. Nil: there is none. It is asked only for visitors who
	// may see what tasks carry ([health.MaySee]).
	Stack func(ctx context.Context, taskID string) (Stack, error)
	// Healthy, Ready and Live answer grpc.health.v1's Check, as the probes of the same names answer over HTTP. A
	// service whose function is nil is not found.
	Healthy, Ready, Live func() bool
}

// Handlers returns the handler of each service by the path to mount it at, which ends in a slash. They speak gRPC only
// where the server speaks HTTP/2.
func Handlers(src Sources) map[string]http.Handler {
	handlers := make(map[string]http.Handler)
	limit := connect.WithReadMaxBytes(maxRequest)
	if src.Ping != nil {
		path, h := runqyv1connect.NewWorkerServiceHandler(service{src.Ping, src.Stack}, limit, connect.WithCodec(wholeJSON{}))
		handlers[path] = uncached(h)
	}
	path, h := grpchealth.NewHandler(newChecker(src), limit)
	handlers[path] = uncached(h)
	return handlers
}

// uncached keeps the answers, which may be asked for with GET, out of caches.
func uncached(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

type service struct {
	ping  func() Pong
	stack func(context.Context, string) (Stack, error)
}

// Ping implements runqyv1connect.WorkerServiceHandler.
func (s service) Ping(context.Context, *runqyv1.PingRequest) (*runqyv1.PingResponse, error) {
	return s.ping().message(), nil
}

// checker holds the answer for each service that it knows.
type checker map[string]func() bool

func newChecker(src Sources) checker {
	c := make(checker)
	for name, ok := range map[string]func() bool{ServiceAll: src.Healthy, ServiceWorker: src.Ready, ServiceLive: src.Live} {
		if ok != nil {
			c[name] = ok
		}
	}
	return c
}

// Check implements grpchealth.Checker.
func (c checker) Check(_ context.Context, req *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	ok, known := c[req.Service]
	if !known {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("unknown service %.80q", req.Service))
	}
	status := grpchealth.StatusNotServing
	if ok() {
		status = grpchealth.StatusServing
	}
	return &grpchealth.CheckResponse{Status: status}, nil
}
