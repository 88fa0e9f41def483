package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/health"
	runqyv1 "github.com/runqy/runqy-worker/proto/runqy/v1"
	"github.com/runqy/runqy-worker/proto/runqy/v1/runqyv1connect"
)

const (
	defaultTimeout = 3 * time.Second
	// maxAnswer holds the ids of 10,000 tasks in flight and much more.
	maxAnswer = 8 << 20
	// idleConns are kept between pings, one for each worker; beyond that many some are made anew.
	idleConns = 4096
	idleFor   = time.Minute // less than the worker's side, so that ours closes first
	// rereadAfter is how often the files are read again at most.
	rereadAfter = 10 * time.Second
)

// ClientOptions say how workers are reached.
type ClientOptions struct {
	// TLS says that workers speak HTTPS; a CAFile says so too. There is no fallback to plain text, which would give the
	// password away.
	TLS bool
	// CAFile holds the authorities to trust, PEM; empty: the system's.
	CAFile string
	// Username and PasswordFile are for basic authentication; empty: none.
	Username, PasswordFile string
	// Timeout bounds a ping, its connection included; default: 3 s.
	Timeout time.Duration
}

// OptionsFrom reads the options from the configuration. All workers are reached in one way: by TLS when
// fleet.client.ca_file is set, or when this worker's own port is behind TLS by its health.web_config.
func OptionsFrom(cfg *config.Config) (ClientOptions, error) {
	own, err := health.UsesTLS(cfg.Health.WebConfig)
	if err != nil {
		return ClientOptions{}, err
	}
	c := cfg.Fleet.Client
	return ClientOptions{
		TLS: own, CAFile: c.CAFile, Username: c.Username, PasswordFile: c.PasswordFile, Timeout: cfg.Fleet.PingTimeout,
	}, nil
}

// Client pings workers. Connections are kept between pings. It is safe for concurrent use; Close it when the last ping
// has returned.
type Client struct {
	opts    ClientOptions
	scheme  string
	timeout time.Duration
	http    *http.Client
	close   func()

	secrets atomic.Pointer[secrets]

	mu   sync.Mutex // guards read
	read time.Time  // when the files were read
}

// NewClient reads the files that the options name. They are read again when a worker refuses what they held: passwords
// and authorities may change.
func NewClient(opts ClientOptions) (*Client, error) {
	s, err := opts.readSecrets()
	if err != nil {
		return nil, err
	}
	c := &Client{opts: opts, scheme: "http", timeout: opts.Timeout, read: time.Now()}
	c.secrets.Store(s)
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	if opts.TLS || opts.CAFile != "" {
		c.scheme = "https"
	}
	life, end := context.WithCancel(context.Background())
	d := &dialer{
		timeout: c.timeout,
		onClose: func(f func()) func() bool { return context.AfterFunc(life, f) },
		tls:     func() *tls.Config { return c.secrets.Load().tls },
		connect: (&net.Dialer{}).DialContext,
		lookup:  net.DefaultResolver.LookupNetIP,
	}
	// HTTP/1.1 suffices for one question at a time, works behind http2: false, and a connection on which a ping has
	// timed out is not used again.
	only1 := new(http.Protocols)
	only1.SetHTTP1(true)
	transport := &http.Transport{
		Proxy:       nil, // a refusal by a proxy would say nothing about the worker
		DialContext: d.plain, DialTLSContext: d.secure, Protocols: only1,
		MaxIdleConns: idleConns, MaxIdleConnsPerHost: 1, IdleConnTimeout: idleFor,
		MaxResponseHeaderBytes: 64 << 10,
	}
	c.http = &http.Client{
		Transport: roundTripper{next: transport, secrets: &c.secrets},
		// Credentials go nowhere but to the worker.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c.close = func() {
		end()
		transport.CloseIdleConnections()
	}
	return c, nil
}

// Close ends the connections and the attempts to make some.
func (c *Client) Close() { c.close() }

// Ping asks the worker at host:port, and takes no longer than the timeout or ctx. Every error is a *[Failure], of
// KindOther when ctx was cancelled. Which process has answered is for the caller to compare.
func (c *Client) Ping(ctx context.Context, address string) (Pong, error) {
	base, err := c.base(address)
	if err != nil {
		return Pong{}, &Failure{Kind: KindOther, Address: address, Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	// With GET a ping that meets a connection which the worker has just closed is sent again on a new one.
	client := runqyv1connect.NewWorkerServiceClient(c.http, base,
		connect.WithHTTPGet(), connect.WithReadMaxBytes(maxAnswer))
	answer, err := client.Ping(ctx, &runqyv1.PingRequest{})
	if err != nil {
		f := failure(address, err)
		if f.Kind == KindTLS || f.Kind == KindUnauthorised {
			if err := c.reread(); err != nil {
				f.Err = fmt.Errorf("%w; reading the files again: %w", f.Err, err)
			}
		}
		return Pong{}, f
	}
	pong, err := pongOf(answer)
	if err != nil {
		return Pong{}, &Failure{Kind: KindOther, Address: address, Err: err}
	}
	return pong, nil
}

// base is the URL of a worker. The address comes from Redis: nothing but a host and a port passes.
func (c *Client) base(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" {
		return "", fmt.Errorf("%q is not an address: want host:port", address)
	}
	base := (&url.URL{Scheme: c.scheme, Host: address}).String()
	if u, err := url.Parse(base); err != nil || u.Host != address || u.User != nil {
		return "", fmt.Errorf("%q is not an address: want host:port", address)
	}
	return base, nil
}

// reread reads the files again, unless that was done just now. The old ones stay in use when it fails.
func (c *Client) reread() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.read) < rereadAfter {
		return nil
	}
	c.read = time.Now()
	s, err := c.opts.readSecrets()
	if err != nil {
		return err
	}
	c.secrets.Store(s)
	return nil
}

// roundTripper adds the credentials, and recognises a plain request that was answered by a TLS server.
type roundTripper struct {
	next    http.RoundTripper
	secrets *atomic.Pointer[secrets]
}

// RoundTrip implements http.RoundTripper.
func (t roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	if auth := t.secrets.Load().authorization; auth != "" {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", auth)
	}
	resp, err := t.next.RoundTrip(req)
	if err != nil || req.URL.Scheme != "http" || resp.StatusCode != http.StatusBadRequest {
		return resp, err
	}
	// Go's servers say it in these words; the answer to a ping has others.
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	_ = resp.Body.Close()
	if err == nil && strings.Contains(string(body), "HTTP request to an HTTPS server") {
		return nil, &tlsError{
			hint: "set fleet.client.ca_file to the authority of its certificate",
			err:  errors.New("the worker speaks TLS only"),
		}
	}
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
	return resp, nil
}
