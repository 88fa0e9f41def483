package health

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Access decides which visitors of the TCP port may see what tasks carry (error texts, lines of stderr, payloads) and
// may act: those who are on this machine and those whom the web config file lets in by name. It is safe for concurrent
// use.
type Access struct {
	webConfig string
}

// NewAccess returns the Access of a port behind this web config file (of the exporter-toolkit); empty: none.
func NewAccess(webConfig string) Access { return Access{webConfig: webConfig} }

// Trusted reports whether the visitor who sent a request, which the server has let in, is trusted. It reads the web
// config file when the request brings a user name, as the server itself does for each request.
func (a Access) Trusted(r *http.Request) bool {
	return a.authenticated(r) || onThisMachine(r)
}

// authenticated reports whether the server has checked who the visitor is, which it does for every request if the file
// has users or wants certificates.
func (a Access) authenticated(r *http.Request) bool {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return true
	}
	user, _, ok := r.BasicAuth()
	if !ok || a.webConfig == "" {
		return false
	}
	c, err := readWebConfig(a.webConfig)
	if err != nil {
		return false // the server refuses such a request itself
	}
	_, known := c.Users[user]
	return known
}

// proxyHeaders returns the headers that proxies set when they pass a request on.
func proxyHeaders() []string {
	return []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Forwarded", "Via"}
}

// onThisMachine reports whether the visitor is on loopback. A proxy here may stand in front of the whole world; and a
// page of another site can reach a loopback address under a name of its own (DNS rebinding), so the name that was asked
// for must be a local one too.
func onThisMachine(r *http.Request) bool {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !remote.Addr().Unmap().IsLoopback() {
		return false
	}
	// nginx, unless told otherwise, passes requests on in HTTP/1.0 under the name of its upstream and with no header
	// that tells of it. No browser speaks HTTP/1.0.
	if !r.ProtoAtLeast(1, 1) {
		return false
	}
	for _, name := range proxyHeaders() {
		if len(r.Header.Values(name)) > 0 {
			return false
		}
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
