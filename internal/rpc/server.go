package rpc

import (
	"context"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"

	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/status"
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
	// Report is what grpc.health.v1's Check is answered from, as the probes of the same names over HTTP. Nil: every service
	// is unknown.
	Report func() status.Report
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
	path, h := grpchealth.NewHandler(checker{src.Report}, limit)
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
func (s service) Ping(ctx context.Context, _ *runqyv1.PingRequest) (*runqyv1.PingResponse, error) {
	pong := s.ping()
	setMark(ctx, pong.Report)
	return pong.message(), nil
}

// setMark tells in a header which report the answer is made from.
func setMark(ctx context.Context, m status.Mark) {
	if call, ok := connect.CallInfoForHandlerContext(ctx); ok {
		call.ResponseHeader().Set(status.ReportHeader, m.String())
	}
}

// checker answers Check from a report.
type checker struct {
	report func() status.Report
}

// Check implements grpchealth.Checker.
func (c checker) Check(ctx context.Context, req *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	unknown := connect.NewError(connect.CodeNotFound, fmt.Errorf("unknown service %.80q", req.Service))
	if c.report == nil {
		return nil, unknown
	}
	report := c.report()
	var ok bool
	switch req.Service {
	case ServiceAll:
		ok = report.Healthy
	case ServiceWorker:
		ok = report.Ready()
	case ServiceLive:
		ok, _ = health.Live(report.Health)
	default:
		return nil, unknown
	}
	setMark(ctx, report.Mark)
	answer := grpchealth.StatusNotServing
	if ok {
		answer = grpchealth.StatusServing
	}
	return &grpchealth.CheckResponse{Status: answer}, nil
}
