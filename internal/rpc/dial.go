package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// dialer makes connections. A dial outlives the ping that asked for it, since net/http keeps it for the next one; hence
// its own bounds.
type dialer struct {
	timeout time.Duration
	// onClose calls f when the client is closed, until stop is called.
	onClose func(f func()) (stop func() bool)
	tls     func() *tls.Config // without ServerName

	connect func(ctx context.Context, network, addr string) (net.Conn, error)
	lookup  func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

func (d *dialer) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	stop := d.onClose(cancel)
	return ctx, func() { stop(); cancel() }
}

// plain is http.Transport's DialContext.
func (d *dialer) plain(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	return d.dial(ctx, network, addr)
}

// secure is http.Transport's DialTLSContext: what fails in the handshake is told apart from what fails before and
// after.
func (d *dialer) secure(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	raw, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	config := d.tls().Clone()
	config.ServerName = host
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		if ctxErr := ctx.Err(); ctxErr != nil {
			return nil, fmt.Errorf("TLS handshake: %w", ctxErr)
		}
		return nil, &tlsError{hint: handshakeHint(err), err: err}
	}
	return conn, nil
}

func handshakeHint(err error) string {
	var (
		header tls.RecordHeaderError
		verify *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &header):
		return "the worker does not speak TLS: give it a web_config, or remove fleet.client.ca_file"
	case errors.As(err, &verify):
		return "fleet.client.ca_file must hold the authority of the worker's certificate, and the certificate its address"
	}
	return ""
}

// dial reports ECONNREFUSED only when every address of the host refuses: of several failures the standard dialer
// reports just the first, and a refusal counts as a sign of death.
func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := d.connect(ctx, network, addr)
	if err == nil || !errors.Is(err, syscall.ECONNREFUSED) {
		return conn, err
	}
	host, port, splitErr := net.SplitHostPort(addr)
	if splitErr != nil || net.ParseIP(host) != nil {
		return nil, err
	}
	ips, lookupErr := d.lookup(ctx, "ip", host)
	if lookupErr != nil {
		return nil, lookupErr
	}
	if len(ips) < 2 {
		return nil, err
	}
	for _, ip := range ips {
		conn, dialErr := d.connect(ctx, network, net.JoinHostPort(ip.String(), port))
		if dialErr == nil || !errors.Is(dialErr, syscall.ECONNREFUSED) {
			return conn, dialErr
		}
	}
	return nil, err
}
