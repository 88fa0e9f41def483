package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"syscall"

	"connectrpc.com/connect"
)

// Kind says how a ping failed. The values are fit for a label.
type Kind string

// The kinds. Only KindRefused says anything about the worker's process: nobody listens at its address any more.
const (
	KindRefused      Kind = "refused"      // every address of the host refused the connection
	KindTimeout      Kind = "timeout"      // no answer in time
	KindUnauthorised Kind = "unauthorised" // wrong or missing credentials
	KindTLS          Kind = "tls"          // no trusted TLS connection, or TLS on one side only
	KindOther        Kind = "error"        // anything else
)

// Failure is the error of [Client.Ping] and of those that ask for stacks. Find it with errors.As.
type Failure struct { //nolint:errname // it reads as what it is at the caller: rpc.Failure
	Kind    Kind
	Address string
	Err     error // what happened; never carries credentials

	doing string // empty: ping
}

func (f *Failure) Error() string {
	return fmt.Sprintf("%s %s: %s: %v", cmp.Or(f.doing, "ping"), f.Address, f.Kind, f.Err)
}

func (f *Failure) Unwrap() error { return f.Err }

// tlsError is a TLS connection that did not come about.
type tlsError struct {
	hint string // what to look at; may be empty
	err  error
}

func (e *tlsError) Error() string {
	if e.hint == "" {
		return e.err.Error()
	}
	return fmt.Sprintf("%v (%s)", e.err, e.hint)
}

func (e *tlsError) Unwrap() error { return e.err }

// failure makes a Failure of the error that a call has ended with.
func failure(address string, err error) *Failure {
	kind, inner := classify(err), plain(err)
	if kind == KindUnauthorised {
		inner = fmt.Errorf("%w (fleet.client.username and password_file must be among the worker's basic_auth_users)", inner)
	}
	return &Failure{Kind: kind, Address: address, Err: inner}
}

func classify(err error) Kind {
	var (
		tlsErr     *tlsError
		netErr     *net.OpError
		netTimeout net.Error
	)
	switch {
	case errors.As(err, &tlsErr):
		return KindTLS
	case errors.As(err, &netErr) && netErr.Op == "remote error":
		// crypto/tls' name for an alert of the other side; with TLS 1.3 the one for a missing client certificate comes
		// after the handshake.
		return KindTLS
	case errors.Is(err, syscall.ECONNREFUSED):
		return KindRefused
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT),
		errors.As(err, &netTimeout) && netTimeout.Timeout():
		return KindTimeout
	}
	switch connect.CodeOf(err) {
	case connect.CodeUnauthenticated, connect.CodePermissionDenied:
		return KindUnauthorised
	case connect.CodeDeadlineExceeded:
		return KindTimeout
	default:
		return KindOther
	}
}

// plain takes the wrappings off that only repeat the address and the method.
func plain(err error) error {
	var rpcErr *connect.Error
	if errors.As(err, &rpcErr) && rpcErr.Unwrap() != nil {
		err = rpcErr.Unwrap()
	}
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		err = urlErr.Err
	}
	return err
}
