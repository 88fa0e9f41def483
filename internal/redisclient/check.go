package redisclient

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Errors of CheckServer that waiting does not cure. Everything else it returns (connection refused, still loading) may
// pass.
var (
	// ErrTooOld: the server lacks commands that the worker is built on.
	ErrTooOld = errors.New("server is older than Redis 6.2")
	// ErrCredentials: the server wants other credentials than the URL carries.
	ErrCredentials = errors.New("server refuses the credentials of redis.url")
)

// CheckServer asks the server for its version and refuses one before 6.2 (BLMOVE and LMOVE came then). A server that
// answers but hides its INFO is taken as new enough. It blocks for at most the client's timeouts and ctx.
func CheckServer(ctx context.Context, client redis.UniversalClient) error {
	info, err := client.Info(ctx, "server").Result()
	if err == nil {
		return checkVersion(info)
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return fmt.Errorf("ask Redis for its version: %w", err)
	}
	switch text := reply.Error(); {
	case IsCredentialsError(err):
		return fmt.Errorf("%w: %w", ErrCredentials, err)
	case strings.HasPrefix(text, "NOPERM"), strings.Contains(text, "unknown command"), strings.Contains(text, "not supported"):
		// An ACL, a renamed command, or a work-alike without the section.
		if err := client.Ping(ctx).Err(); err != nil && !strings.HasPrefix(err.Error(), "NOPERM") {
			return fmt.Errorf("ping Redis: %w", err)
		}
		return nil
	default:
		return fmt.Errorf("ask Redis for its version: %w", err)
	}
}

// IsCredentialsError reports whether a command failed because the server wants a password or refuses the one it was
// given.
func IsCredentialsError(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	text := reply.Error()
	return strings.HasPrefix(text, "NOAUTH") || strings.HasPrefix(text, "WRONGPASS") ||
		strings.Contains(text, "without any password configured") || strings.HasPrefix(text, "ERR invalid password")
}

func checkVersion(info string) error {
	version := ""
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "redis_version:"); ok {
			version = v
		}
	}
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return nil // a work-alike with a scheme of its own
	}
	major, majorErr := strconv.Atoi(parts[0])
	minor, minorErr := strconv.Atoi(parts[1])
	known := majorErr == nil && minorErr == nil
	if known && (major < 6 || (major == 6 && minor < 2)) {
		return fmt.Errorf("%w: it is %s; upgrade the server to 6.2 or later", ErrTooOld, version)
	}
	return nil
}
