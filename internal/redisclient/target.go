// Package redisclient turns a Redis URL into the right client: standalone, TLS, unix socket, Sentinel, Cluster, or a
// miniredis inside this process.
//
// The forms, with every bracketed part optional:
//
//	redis://[[user]:password@]host[:6379][/db]
//	rediss://…                                  the same over TLS
//	redis-socket://[[user]:password@]/path/to.sock[?db=0]      (also unix://)
//	redis-sentinel://[[user]:password@]host[:26379],host2…[/db]?master=NAME
//	redis-cluster://[[user]:password@]host[:6379],host2…
//	embedded://[:password@][host:port]          default 127.0.0.1 and a free port
//
// The credentials are those of the data servers; a Sentinel that wants some of its own gets sentinel_username and
// sentinel_password from the query. Special characters in a password are percent-encoded. Query options are those of
// go-redis (dial_timeout, read_timeout, pool_size, client_name, …) and for TLS ca_file, cert_file, key_file,
// server_name, insecure_skip_verify (or skip_verify) and, where the scheme does not say it, tls=true.
package redisclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Target is a parsed Redis URL. The zero value is of no use. A Target may be copied and used from any goroutine.
type Target struct {
	scheme string
	hosts  []string // host:port each; for a unix socket its path
	user   string
	pass   string
	db     int
	query  url.Values
	opts   redis.UniversalOptions // credentials, addresses, TLS and query options applied
}

// The schemes, without their synonyms.
const (
	schemeRedis    = "redis"
	schemeRediss   = "rediss"
	schemeSocket   = "redis-socket"
	schemeSentinel = "redis-sentinel"
	schemeCluster  = "redis-cluster"
	schemeEmbedded = "embedded"
)

// Parse reads a Redis URL and the certificate files that it names. Its errors name the part that is wrong and never
// contain a password.
func Parse(rawURL string) (Target, error) {
	scheme, rest, ok := strings.Cut(rawURL, "://")
	if !ok {
		return Target{}, errors.New(`no scheme: write redis://host:6379/0 (or rediss, redis-socket, redis-sentinel, redis-cluster, embedded)`)
	}
	scheme = strings.ToLower(scheme)
	if scheme == "unix" {
		scheme = schemeSocket
	}
	known := []string{schemeRedis, schemeRediss, schemeSocket, schemeSentinel, schemeCluster, schemeEmbedded}
	if !slices.Contains(known, scheme) {
		return Target{}, fmt.Errorf("unknown scheme %q: use one of %s", scheme, strings.Join(known, ", "))
	}

	t := Target{scheme: scheme}
	authority, path := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	if err := t.setCredentials(&authority); err != nil {
		return Target{}, err
	}
	if strings.Contains(path, "@") && strings.Contains(authority, ":") && !validPort(authority) {
		return Target{}, errors.New("an unescaped / ? or # in the password: percent-encode it (%2F, %3F, %23)")
	}
	u, err := url.Parse(path)
	if err != nil {
		return Target{}, errors.New("the part behind the host does not parse: check the percent-encoding")
	}
	if u.Fragment != "" {
		return Target{}, errors.New("a # in the URL: percent-encode it as %23")
	}
	if t.query, err = url.ParseQuery(u.RawQuery); err != nil {
		return Target{}, errors.New("the query does not parse: write name=value&name=value, percent-encoded")
	}
	if err := t.setHosts(authority, u.Path); err != nil {
		return Target{}, err
	}
	if err := t.setDB(u.Path); err != nil {
		return Target{}, err
	}
	if err := t.setOptions(); err != nil {
		return Target{}, err
	}
	return t, nil
}

// setCredentials cuts "user:password@" off the authority.
func (t *Target) setCredentials(authority *string) error {
	i := strings.LastIndex(*authority, "@")
	if i < 0 {
		return nil
	}
	user, pass, _ := strings.Cut((*authority)[:i], ":")
	*authority = (*authority)[i+1:]
	var err1, err2 error
	t.user, err1 = url.PathUnescape(user)
	t.pass, err2 = url.PathUnescape(pass)
	if err1 != nil || err2 != nil {
		return errors.New("the user or the password is not valid percent-encoding: write % as %25")
	}
	if t.user != "" && t.pass == "" {
		return errors.New("a user without a password: write user:password@host, or :password@host for the default user")
	}
	return nil
}

func (t *Target) setHosts(authority, path string) error {
	defaultPort := "6379"
	switch t.scheme {
	case schemeSocket:
		if authority != "" {
			return fmt.Errorf("a socket URL has no host (%q): write redis-socket:///path/to.sock, with three slashes", authority)
		}
		if path == "" || path == "/" {
			return errors.New("no socket path: write redis-socket:///path/to.sock")
		}
		t.hosts = []string{path}
		return nil
	case schemeEmbedded:
		if authority == "" {
			authority = "127.0.0.1:0"
		}
		defaultPort = "0"
	case schemeSentinel:
		defaultPort = "26379"
	}
	if authority == "" {
		authority = "localhost"
	}
	for host := range strings.SplitSeq(authority, ",") {
		addr, err := hostPort(host, defaultPort)
		if err != nil {
			return err
		}
		t.hosts = append(t.hosts, addr)
	}
	if len(t.hosts) > 1 && t.scheme != schemeSentinel && t.scheme != schemeCluster {
		return fmt.Errorf("%d hosts in a %s URL: several belong to redis-cluster or redis-sentinel", len(t.hosts), t.scheme)
	}
	return nil
}

// hostPort completes host, host:port, :port, [v6] or [v6]:port.
func hostPort(s, defaultPort string) (string, error) {
	host, port := s, defaultPort
	switch {
	case s == "":
		return "", errors.New("an empty host in the list of hosts")
	case strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]"):
		host = s[1 : len(s)-1]
	case strings.Contains(s, ":"):
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return "", fmt.Errorf("host %q is not host:port (an IPv6 address stands in brackets)", s)
		}
	}
	if host == "" {
		host = "localhost"
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune("[]%\"'<>{}\\*", r) }) {
		return "", fmt.Errorf("host %q has characters that no host name has", host)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 || (n == 0 && defaultPort != "0") {
		return "", fmt.Errorf("port %q of host %q is not a number from 1 to 65535", port, host)
	}
	return net.JoinHostPort(host, port), nil
}

// validPort reports whether every host of the authority ends in a plausible port.
func validPort(authority string) bool {
	for host := range strings.SplitSeq(authority, ",") {
		if _, err := hostPort(host, "0"); err != nil {
			return false
		}
	}
	return true
}

func (t *Target) setDB(path string) error {
	text := strings.Trim(path, "/")
	if t.scheme == schemeSocket {
		text = ""
	}
	if q := t.query.Get("db"); q != "" {
		if text != "" && text != q {
			return fmt.Errorf("two database numbers: /%s and ?db=%s", text, q)
		}
		text = q
	}
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return fmt.Errorf("database %q is not a number: write host:port/0", text)
	}
	if n != 0 && t.scheme == schemeCluster {
		return fmt.Errorf("database %d: Redis Cluster has database 0 only", n)
	}
	t.db = n
	return nil
}

// Open returns a new client; it does not connect yet. The mods run last and may change any option: timeouts, pool size,
// hooks of the dialer. The caller closes the client.
//
// Defaults that matter: a dial takes at most 3 s and is tried twice, a read or a write at most 5 s, and a context's
// deadline is respected. A cluster client finds the new master within moments of a failover.
func (t Target) Open(mods ...func(*redis.UniversalOptions)) redis.UniversalClient {
	opts := t.opts
	opts.Addrs = slices.Clone(t.opts.Addrs)
	if opts.TLSConfig != nil {
		opts.TLSConfig = opts.TLSConfig.Clone()
	}
	for _, mod := range mods {
		mod(&opts)
	}
	client := redis.NewUniversalClient(&opts)
	if cluster, ok := client.(*redis.ClusterClient); ok {
		cluster.AddHook(reloader{cluster})
	}
	return client
}

// Cluster reports whether the target is a Redis Cluster, where a command's keys must lie in one slot.
func (t Target) Cluster() bool { return t.scheme == schemeCluster }

// Embedded reports whether the target is a miniredis that this process runs itself (StartEmbedded), and that holds
// nothing durable.
func (t Target) Embedded() bool { return t.scheme == schemeEmbedded }

// Listen is the host:port that an embedded target names for StartEmbedded. Its port is 0 when the URL leaves the choice
// to the system. It is empty for every other target.
func (t Target) Listen() string {
	if !t.Embedded() {
		return ""
	}
	return t.hosts[0]
}

// String is the URL without its secrets, fit for logs and errors.
func (t Target) String() string {
	var b strings.Builder
	b.WriteString(t.scheme + "://")
	if t.pass != "" {
		b.WriteString(url.PathEscape(t.user) + ":" + mask + "@")
	}
	if t.scheme == schemeSocket {
		b.WriteString((&url.URL{Path: t.hosts[0]}).EscapedPath())
	} else {
		b.WriteString(strings.Join(t.hosts, ","))
	}
	if t.db != 0 && t.scheme != schemeSocket {
		b.WriteString("/" + strconv.Itoa(t.db))
	}
	if q := encodeRedacted(t.query); q != "" {
		b.WriteString("?" + q)
	}
	return b.String()
}

func (t *Target) setOptions() error {
	t.opts = redis.UniversalOptions{
		Addrs:         t.hosts,
		DB:            t.db,
		Username:      t.user,
		Password:      t.pass,
		IsClusterMode: t.scheme == schemeCluster,

		DialTimeout:           3 * time.Second,
		DialerRetries:         2,
		ReadTimeout:           5 * time.Second,
		WriteTimeout:          5 * time.Second,
		ContextTimeoutEnabled: true,

		// Neither is of use here, and each costs a round trip per connection that older servers answer with an error.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if err := applyQuery(&t.opts, t.scheme, t.query); err != nil {
		return err
	}
	if t.scheme == schemeSentinel && t.opts.MasterName == "" {
		return errors.New("a Sentinel URL names the master: add ?master=NAME")
	}
	if t.Embedded() && strings.HasSuffix(t.hosts[0], ":0") {
		t.opts.Dialer = func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("an embedded:// Redis lives in the process that started it; give it a port (embedded://127.0.0.1:6390) to reach it from another")
		}
		t.opts.DialerRetries = 1
		t.opts.MaxRetries = -1
	}
	return nil
}
