package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"
)

// ReadAuthorities returns the certificates of a PEM file, as fleet.client.ca_file names one.
func ReadAuthorities(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return pool, nil
}

// ReadPassword returns the password in a file, as fleet.client.password_file names one, without the white space around
// it.
func ReadPassword(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	password := strings.TrimSpace(string(text))
	if password == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return password, nil
}

// fileRule is a key that names a file, or a directory, which run needs: what is wrong with that is a fault of the
// configuration.
type fileRule struct {
	key  string
	path func(*Config) string
	read func(path string) error
}

func fileRules() []fileRule {
	return []fileRule{
		{"python.dir", func(c *Config) string { return c.Python.Dir }, checkDirExists},
		{"health.web_config", func(c *Config) string { return c.Health.WebConfig }, web.Validate},
		{"fleet.client.ca_file", func(c *Config) string { return c.Fleet.Client.CAFile }, func(path string) error {
			_, err := ReadAuthorities(path)
			return err
		}},
		{"fleet.client.password_file", func(c *Config) string { return c.Fleet.Client.PasswordFile }, func(path string) error {
			_, err := ReadPassword(path)
			return err
		}},
	}
}

// checkFiles reads the files that the configuration names, and warns where they contradict each other.
func (l *loader) checkFiles(c *Config) {
	for _, r := range fileRules() {
		path := r.path(c)
		if path == "" || l.bad[r.key] {
			continue
		}
		if err := r.read(path); err != nil {
			l.bad[r.key] = true
			l.fault(c.origins[r.key], r.key, path, fileProblem(err))
		}
	}
	if !l.bad["health.web_config"] && !l.bad["fleet.client.username"] && c.Health.Listen != "" && c.Fleet.Client.Username == "" &&
		hasUsers(c.Health.WebConfig) {
		l.warnings = append(l.warnings, "health.web_config asks for a password and fleet.client.username is not set: workers that ping "+
			"each other get 401 and take each other for dead; set fleet.client.username and fleet.client.password_file")
	}
}

// fileProblem is the error on one line.
func fileProblem(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	switch {
	case errors.Is(err, errNoDirectory):
		return text
	case errors.Is(err, fs.ErrNotExist):
		return "cannot be used: " + text + " (relative to the working directory)"
	}
	return "cannot be used: " + text
}

// hasUsers reports whether a web config file that web.Validate has found right asks for a name and a password.
func hasUsers(webConfig string) bool {
	if webConfig == "" {
		return false
	}
	text, err := os.ReadFile(webConfig)
	if err != nil {
		return false // it was removed since: run reports that
	}
	var c struct {
		Users map[string]string `yaml:"basic_auth_users"`
	}
	return yaml.Unmarshal(text, &c) == nil && len(c.Users) > 0
}
