package config

import (
	"fmt"
	"time"
)

// limit is what a key accepts beyond its type: the words for docs/configuration.md, and the check of a value. A limit
// without a check is checked elsewhere (relations, fileRules); the zero limit accepts every value of the type.
type limit struct {
	text  string                            // Markdown, for a column of a table
	check func(c *Config, place any) string // what is wrong with the value at place; empty when nothing is
}

// rule is a limit that is checked by a function of the whole Config.
func rule(text string, check func(*Config) string) limit {
	return limit{text: text, check: func(c *Config, _ any) string { return check(c) }}
}

// also adds words about a rule that is checked elsewhere.
func (l limit) also(text string) limit {
	l.text += ", " + text
	return l
}

// between accepts whole numbers from low to high.
func between(low, high int) limit {
	return limit{text: fmt.Sprintf("%d to %d", low, high), check: func(_ *Config, place any) string {
		if n := *place.(*int); n < low || n > high {
			return fmt.Sprintf("is not from %d to %d", low, high)
		}
		return ""
	}}
}

// positive accepts durations of more than 0.
func positive() limit {
	return limit{text: "more than 0", check: func(_ *Config, place any) string {
		if *place.(*time.Duration) <= 0 {
			return "is not more than 0: write a duration like 30s or 5m"
		}
		return ""
	}}
}

// atLeast accepts durations from low.
func atLeast(low time.Duration) limit {
	text := "at least " + showDuration(low)
	if low == 0 {
		text = "0 or more"
	}
	return limit{text: text, check: func(_ *Config, place any) string {
		if *place.(*time.Duration) < low {
			return "is less than " + showDuration(low)
		}
		return ""
	}}
}

// relation is a rule about two keys. It is not checked while either of them has a fault of its own.
type relation struct {
	key, other string // the fault is reported at key
	check      func(*Config) string
}

func relations() []relation {
	return []relation{
		{"heartbeat.ttl", "heartbeat.interval", func(c *Config) string {
			if c.Heartbeat.TTL < 2*c.Heartbeat.Interval {
				return "is less than two intervals of " + showDuration(c.Heartbeat.Interval) +
					": one late beat would declare the worker dead; write at least " + showDuration(2*c.Heartbeat.Interval)
			}
			return ""
		}},
		{"python.restart.max_delay", "python.restart.initial_delay", func(c *Config) string {
			if c.Python.Restart.MaxDelay < c.Python.Restart.InitialDelay {
				return "is less than python.restart.initial_delay (" + showDuration(c.Python.Restart.InitialDelay) + ")"
			}
			return ""
		}},
		{"fleet.client.username", "fleet.client.password_file", func(c *Config) string {
			if (c.Fleet.Client.Username == "") != (c.Fleet.Client.PasswordFile == "") {
				return "belongs together with fleet.client.password_file: set both or neither"
			}
			return ""
		}},
	}
}
