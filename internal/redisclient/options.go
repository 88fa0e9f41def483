package redisclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// tlsOptions are the query options that need a TLS connection.
var tlsOptions = []string{"ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify", "skip_verify"}

// applyQuery sets every option of the query and refuses the ones it does not know.
func applyQuery(o *redis.UniversalOptions, scheme string, query url.Values) error {
	ints := map[string]*int{
		"protocol": &o.Protocol, "max_retries": &o.MaxRetries, "pool_size": &o.PoolSize,
		"min_idle_conns": &o.MinIdleConns, "max_idle_conns": &o.MaxIdleConns,
		"max_active_conns": &o.MaxActiveConns, "max_concurrent_dials": &o.MaxConcurrentDials,
		"dialer_retries": &o.DialerRetries, "pipeline_pool_size": &o.PipelinePoolSize,
		"pipeline_read_buffer_size": &o.PipelineReadBufferSize, "pipeline_write_buffer_size": &o.PipelineWriteBufferSize,
	}
	durations := map[string]*time.Duration{
		"min_retry_backoff": &o.MinRetryBackoff, "max_retry_backoff": &o.MaxRetryBackoff,
		"dial_timeout": &o.DialTimeout, "read_timeout": &o.ReadTimeout, "write_timeout": &o.WriteTimeout,
		"pool_timeout": &o.PoolTimeout, "conn_max_idle_time": &o.ConnMaxIdleTime, "idle_timeout": &o.ConnMaxIdleTime,
		"conn_max_lifetime": &o.ConnMaxLifetime, "max_conn_age": &o.ConnMaxLifetime,
		"conn_max_lifetime_jitter": &o.ConnMaxLifetimeJitter,
	}
	texts := map[string]*string{"client_name": &o.ClientName}
	switch scheme {
	case schemeSentinel:
		texts["master"], texts["master_name"] = &o.MasterName, &o.MasterName
		texts["sentinel_username"], texts["sentinel_password"] = &o.SentinelUsername, &o.SentinelPassword
	case schemeCluster:
		ints["max_redirects"] = &o.MaxRedirects
	}
	bools := map[string]*bool{"pool_fifo": &o.PoolFIFO}

	var security tlsSettings
	security.on = scheme == schemeRediss
	bools["insecure_skip_verify"], bools["skip_verify"] = &security.skipVerify, &security.skipVerify
	texts["ca_file"], texts["cert_file"], texts["key_file"] = &security.ca, &security.cert, &security.key
	texts["server_name"] = &security.serverName
	if scheme != schemeRedis && scheme != schemeRediss {
		bools["tls"] = &security.on
	}

	known := func() []string {
		all := slices.Concat(slices.Collect(maps.Keys(ints)), slices.Collect(maps.Keys(durations)),
			slices.Collect(maps.Keys(bools)), slices.Collect(maps.Keys(texts)))
		slices.Sort(all)
		return all
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		values := query[name]
		if len(values) > 1 {
			return fmt.Errorf("option %s is given %d times", name, len(values))
		}
		var err error
		if p, ok := ints[name]; ok {
			if *p, err = strconv.Atoi(values[0]); err != nil {
				return fmt.Errorf("option %s=%s is not a whole number", name, values[0])
			}
		} else if p, ok := durations[name]; ok {
			if *p, err = duration(values[0]); err != nil {
				return fmt.Errorf("option %s=%s is not a duration: write 5s or 500ms", name, values[0])
			}
		} else if p, ok := bools[name]; ok {
			if *p, err = strconv.ParseBool(values[0]); err != nil {
				return fmt.Errorf("option %s=%s is neither true nor false", name, values[0])
			}
		} else if p, ok := texts[name]; ok {
			*p = values[0]
		} else if name != "db" {
			return fmt.Errorf("unknown option %s: known for %s are db, %s", name, scheme,
				strings.Join(known(), ", "))
		}
	}
	if !security.on {
		for _, name := range tlsOptions {
			if query.Has(name) {
				return fmt.Errorf("option %s needs TLS: use the rediss scheme, or tls=true with redis-sentinel and redis-cluster", name)
			}
		}
		return nil
	}
	config, err := security.config()
	if err != nil {
		return err
	}
	o.TLSConfig = config
	return nil
}

type tlsSettings struct {
	on, skipVerify            bool
	ca, cert, key, serverName string
}

func (s tlsSettings) config() (*tls.Config, error) {
	// An empty ServerName is filled with the dialled host, which is what a cluster and a set of sentinels need.
	c := &tls.Config{ServerName: s.serverName, InsecureSkipVerify: s.skipVerify, MinVersion: tls.VersionTLS12} //nolint:gosec // the user's explicit choice
	if s.ca != "" {
		data, err := os.ReadFile(s.ca)
		if err != nil {
			return nil, fmt.Errorf("option ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("option ca_file: %s holds no PEM certificate", s.ca)
		}
	}
	if (s.cert == "") != (s.key == "") {
		return nil, errors.New("options cert_file and key_file belong together; only one is given")
	}
	if s.cert != "" {
		pair, err := tls.LoadX509KeyPair(s.cert, s.key)
		if err != nil {
			return nil, fmt.Errorf("options cert_file and key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// duration accepts Go durations and, as go-redis does, plain seconds.
func duration(s string) (time.Duration, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n <= 0 {
			return -1, nil
		}
		return time.Duration(n) * time.Second, nil
	}
	return time.ParseDuration(s)
}
