package redisclient

import (
	"maps"
	"net/url"
	"slices"
	"strings"
)

// mask replaces a secret.
const mask = "***"

// Redact takes the secrets out of any URL, also one that does not parse: the part between the scheme and the last @,
// but for a plain user name, and the value of every query option whose name is that of a password, a secret or a token.
// Text without a URL in it is returned as it is.
func Redact(rawURL string) string {
	scheme, rest, ok := strings.Cut(rawURL, "://")
	if !ok {
		scheme, rest = "", rawURL
	} else {
		scheme += "://"
	}
	if i := strings.LastIndex(rest, "@"); i >= 0 {
		user, _, found := strings.Cut(rest[:i], ":")
		if !found || strings.ContainsAny(user, "/?#@") {
			user = ""
		}
		if found {
			user += ":"
		}
		rest = user + mask + rest[i:]
	}
	before, query, ok := strings.Cut(rest, "?")
	if !ok {
		return scheme + rest
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		if name, _, ok := strings.Cut(pair, "="); ok && secretOption(name) {
			pairs[i] = name + "=" + mask
		}
	}
	return scheme + before + "?" + strings.Join(pairs, "&")
}

func secretOption(name string) bool {
	if decoded, err := url.QueryUnescape(name); err == nil {
		name = decoded
	}
	name = strings.ToLower(name)
	for _, word := range []string{"pass", "pwd", "secret", "token"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

func encodeRedacted(query url.Values) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(query)) {
		for _, value := range query[name] {
			if secretOption(name) {
				value = mask
			} else {
				value = url.QueryEscape(value)
			}
			parts = append(parts, url.QueryEscape(name)+"="+value)
		}
	}
	return strings.Join(parts, "&")
}
