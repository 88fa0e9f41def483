package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
)

// shutdownTimeout is how long requests may go on once the server is to stop: a visitor that does not read its answer holds
// up the end of the process for so long.
const shutdownTimeout = 500 * time.Millisecond

// ServerOptions say where a [Server] listens and what it serves.
type ServerOptions struct {
	Listen    string       // host:port, port 0 for a free one; empty: no TCP listener
	WebConfig string       // file of the exporter-toolkit (TLS, basic auth) for the TCP listener; may be empty
	Handler   http.Handler // served on Listen

	Socket        string       // path of the unix socket; empty: none
	SocketHandler http.Handler // served on Socket, always in plain text and without credentials

	Logger *slog.Logger // default: slog.Default()
}

// Server serves HTTP on a TCP port, on a unix socket, or on both. Use either Run or Close, once.
type Server struct {
	logger    *slog.Logger
	webConfig string
	tcp       net.Listener    // nil: none
	socket    *socketListener // nil: none
	tcpServer *http.Server
	sockServe *http.Server

	end context.CancelFunc // ends the context of every request
}

// NewServer listens at once, so that an address that cannot be had, or a bad web config, is an error here. Requests
// wait until Run.
func NewServer(opts ServerOptions) (*Server, error) {
	logger := opts.Logger
	if logger == nil {
		logger = slog.Default()
	}
	s := &Server{logger: logger.With("component", "health"), webConfig: opts.WebConfig}
	base, end := context.WithCancel(context.Background())
	s.end = end
	if opts.Listen != "" {
		if err := web.Validate(opts.WebConfig); err != nil {
			s.end()
			return nil, fmt.Errorf("health.web_config %s: %w", opts.WebConfig, err)
		}
		l, err := net.Listen("tcp", opts.Listen)
		if err != nil {
			s.end()
			if errors.Is(err, syscall.EADDRINUSE) {
				return nil, fmt.Errorf("listen on health.listen %q: %w: write another, or \":0\" for a free port "+
					"(health.listen in the file, or RUNQY_HEALTH_LISTEN)", opts.Listen, err)
			}
			return nil, fmt.Errorf("listen on health.listen %q: %w", opts.Listen, err)
		}
		s.tcp, s.tcpServer = l, s.newHTTPServer(base, opts.Handler)
	}
	if opts.Socket != "" {
		l, err := listenUnix(opts.Socket)
		if err != nil {
			_ = s.Close()
			return nil, err
		}
		s.socket, s.sockServe = l, s.newHTTPServer(base, opts.SocketHandler)
	}
	return s, nil
}

func (s *Server) newHTTPServer(base context.Context, h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		Protocols:         protocols(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		// A handler that streams extends it with http.ResponseController.
		WriteTimeout:   time.Minute,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
		BaseContext:    func(net.Listener) context.Context { return base },
	}
}

// protocols are those of one port: HTTP/2 also without TLS, which gRPC needs. A web_config with http2: false wins over
// this for TLS.
func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// Addr returns the bound TCP address; nil when there is no TCP listener.
func (s *Server) Addr() net.Addr {
	if s.tcp == nil {
		return nil
	}
	return s.tcp.Addr()
}

// Run serves until ctx ends, then lets requests finish for half a second at most, with their contexts cancelled so that
// streams end at once, removes the unix socket and returns nil. It returns an error when a listener fails.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	failed := make(chan error, 2)
	if s.tcp != nil {
		wg.Go(func() { failed <- s.serveTCP() })
	}
	if s.socket != nil {
		wg.Go(func() { failed <- s.sockServe.Serve(s.socket) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("serve HTTP: %w", err)
	}
	s.shutdown(context.WithoutCancel(ctx))
	wg.Wait()
	// A shutdown before Serve has begun leaves the listeners to us. (Otherwise they are closed already, which is all
	// the error could say.)
	_ = s.closeListeners()
	return err
}

func (s *Server) serveTCP() error {
	if s.webConfig == "" {
		return s.tcpServer.Serve(s.tcp)
	}
	return web.Serve(s.tcp, s.tcpServer, &web.FlagConfig{WebConfigFile: &s.webConfig}, s.logger)
}

func (s *Server) shutdown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	s.end()
	var wg sync.WaitGroup
	for _, server := range []*http.Server{s.tcpServer, s.sockServe} {
		if server == nil {
			continue
		}
		wg.Go(func() {
			if err := server.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
				s.logger.Warn("http requests cut off", "duration", shutdownTimeout)
				_ = server.Close()
			}
		})
	}
	wg.Wait()
}

// Close stops listening and removes the unix socket, for a server that is never run.
func (s *Server) Close() error {
	s.end()
	return s.closeListeners()
}

func (s *Server) closeListeners() error {
	var errs []error
	if s.tcp != nil {
		errs = append(errs, s.tcp.Close())
	}
	if s.socket != nil {
		errs = append(errs, s.socket.Close())
	}
	return errors.Join(errs...)
}
