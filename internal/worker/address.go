package worker

import (
	"context"
	"net"
	"strconv"
	"strings"
)

// reachableAt returns the host:port at which others reach this worker's HTTP server: what health.advertise says, or the
// bound address. Bound to every interface, it is the address of the one that leads to Redis, since the others find the
// workers there; or the host name where Redis has no network address.
func (w *Worker) reachableAt(ctx context.Context) string {
	if w.cfg.Health.Advertise != "" {
		return w.cfg.Health.Advertise
	}
	bound, ok := w.Addr().(*net.TCPAddr)
	if !ok {
		return ""
	}
	host := bound.IP.String()
	if bound.IP.IsUnspecified() {
		host = w.identity.Host
		if ip := localTowards(ctx, w.redisAddrs); ip != "" {
			host = ip
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(bound.Port))
}

// localTowards returns this machine's address on the way to the first of the addresses that can be resolved, or "".
// Nothing is sent: a UDP socket is only connected.
func localTowards(ctx context.Context, addrs []string) string {
	var dialer net.Dialer
	for _, addr := range addrs {
		if strings.HasPrefix(addr, "/") {
			continue // a unix socket
		}
		conn, err := dialer.DialContext(ctx, "udp", addr)
		if err != nil {
			continue
		}
		local, ok := conn.LocalAddr().(*net.UDPAddr)
		_ = conn.Close()
		if ok {
			return local.IP.String()
		}
	}
	return ""
}
