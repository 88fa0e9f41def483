package worker

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/runqy/runqy-worker/internal/config"
)

// ours are the variables of the service manager's protocol with this process: a child that used them would be taken for
// it.
var ours = []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}

// childEnviron is the environment of the Python process: the worker's own without its settings and secrets, the SDK on
// PYTHONPATH, and what python.env adds, which is given on purpose and so wins.
func childEnviron(own []string, sdk string, cfg *config.Config) []string {
	held := secretsOf(cfg)
	vars := make(map[string]string)
	for _, entry := range own {
		name, value, ok := strings.Cut(entry, "=")
		if !ok || strings.HasPrefix(name, "RUNQY_") || slices.Contains(ours, name) || held.in(value) {
			continue
		}
		vars[name] = value
	}
	for name, value := range cfg.Python.Env {
		vars[name] = value
	}
	if sdk != "" {
		path := sdk
		if have := vars["PYTHONPATH"]; have != "" {
			path += string(filepath.ListSeparator) + have
		}
		vars["PYTHONPATH"] = path
	}
	if _, set := vars["PYTHONUNBUFFERED"]; !set {
		vars["PYTHONUNBUFFERED"] = "1" // so that the last lines before a crash reach the log
	}
	vars["RUNQY_WORKER_CONCURRENCY"] = strconv.Itoa(cfg.Worker.Concurrency)
	env := make([]string, 0, len(vars))
	for name, value := range vars {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env
}

// secrets are the texts that must not reach the child. They often stand in a variable of another name, which the
// configuration file refers to.
type secrets struct {
	whole  map[string]bool // as a whole value
	within []string        // anywhere in a value
}

// secretsOf lists the passwords of the worker's URLs and of the fleet's client.
func secretsOf(cfg *config.Config) secrets {
	s := secrets{whole: make(map[string]bool)}
	s.addURL(cfg.Redis.URL)
	s.addURL(cfg.Health.DatabaseURL)
	if file := cfg.Fleet.Client.PasswordFile; file != "" {
		if b, err := os.ReadFile(file); err == nil {
			s.add(strings.TrimSpace(string(b)))
		}
	}
	return s
}

// addURL adds the password and those among the options. It takes the URL apart by hand, since net/url knows no lists of
// hosts.
func (s *secrets) addURL(raw string) {
	_, rest, _ := strings.Cut(raw, "://")
	rest, query, _ := strings.Cut(rest, "?")
	authority, _, _ := strings.Cut(rest, "/")
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		_, password, _ := strings.Cut(authority[:at], ":")
		s.add(password)
	}
	options, _ := url.ParseQuery(query) // what parses is returned all the same
	for name, values := range options {
		if strings.Contains(name, "password") {
			for _, password := range values {
				s.add(password)
			}
		}
	}
}

// add adds a password as it is written, as it is meant, and as another URL may write it.
func (s *secrets) add(password string) {
	const long = 12 // bytes from which a password is unlikely to be a part of something else, as "postgres" is of a path
	forms := []string{password, url.PathEscape(password), url.QueryEscape(password)}
	if plain, err := url.PathUnescape(password); err == nil {
		forms = append(forms, plain)
	}
	for _, form := range forms {
		if form == "" {
			continue
		}
		s.whole[form] = true
		s.within = append(s.within, ":"+form+"@") // in a URL
		if len(form) >= long {
			s.within = append(s.within, form)
		}
	}
}

// in reports whether a value carries a secret.
func (s secrets) in(value string) bool {
	return s.whole[value] || slices.ContainsFunc(s.within, func(secret string) bool { return strings.Contains(value, secret) })
}
