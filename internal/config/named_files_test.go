package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// aHash is a bcrypt hash, as a web config file carries one.
const aHash = "$2y$10$3pZ5PH4kZEV9VbbqAbTFvOsQeYyPWTLhs1TR8EvBtNWnR9W3vEDJK"

func TestFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	password := file("password", "hunter2\n")
	for name, tc := range map[string]struct {
		config string
		want   []string // what the faults say, in turn
	}{
		"none is there": {
			"health: {web_config: nosuch.yml}\nfleet:\n  client:\n    ca_file: nosuch.pem\n    username: u\n    password_file: nosuch\nx: 1",
			[]string{
				`runqy.yaml:1: health.web_config: "nosuch.yml" cannot be used: open nosuch.yml: no such file or directory (relative to the working directory)`,
				`runqy.yaml:4: fleet.client.ca_file: "nosuch.pem" cannot be used: open nosuch.pem: `,
				`runqy.yaml:6: fleet.client.password_file: "nosuch" cannot be used: open nosuch: `,
				"runqy.yaml:7: ", // beside the other faults, not instead of them
			},
		},
		"a web config that is none": {
			"health: {web_config: " + file("bad.yml", "basic_auth_user: {}\n") + "}",
			[]string{"cannot be used: yaml: unmarshal errors: line 1: field basic_auth_user not found"},
		},
		"a password that is no hash": {
			"health: {web_config: " + file("plain.yml", "basic_auth_users: {ops: hunter2}\n") + "}",
			[]string{"cannot be used: crypto/bcrypt: hashedSecret too short"},
		},
		"a certificate that is not there": {
			"health: {web_config: " + file("tls.yml", "tls_server_config: {cert_file: c.pem, key_file: k.pem}\n") + "}",
			[]string{filepath.Join(dir, "c.pem")},
		},
		"an authority that is none": {
			"fleet: {client: {ca_file: " + password + "}}",
			[]string{"holds no certificate in PEM"},
		},
		"an empty password": {
			"fleet: {client: {username: u, password_file: " + file("empty", "\n") + "}}",
			[]string{"is empty"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := parse("runqy.yaml", []byte(tc.config), Options{})
			var faults *Error
			if !errors.As(err, &faults) || len(faults.Faults) != len(tc.want) {
				t.Fatalf("got %v, want %d faults", err, len(tc.want))
			}
			for i, want := range tc.want {
				if got := faults.Faults[i].String(); !strings.Contains(got, want) || strings.Contains(got, "hunter2") {
					t.Errorf("fault %d is %q, want %q", i, got, want)
				}
			}
		})
	}
	if _, _, err := parse("runqy.yaml", []byte("health: {web_config: nosuch.yml}"), Options{Elsewhere: true}); err != nil {
		t.Errorf("on a machine that starts no worker: got %v, want no error", err)
	}
}

// Workers that ask each other for a password which none of them knows take each other for dead.
func TestPasswordThatPingsDoNotKnow(t *testing.T) {
	dir := t.TempDir()
	users, open, password := filepath.Join(dir, "users.yml"), filepath.Join(dir, "open.yml"), filepath.Join(dir, "password")
	for path, text := range map[string]string{
		users: "basic_auth_users: {ops: '" + aHash + "'}\n", open: "http_server_config: {http2: true}\n", password: "secret\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		config string
		warned bool
	}{
		"a password and no client":  {"health: {web_config: " + users + "}", true},
		"a password and a client":   {"health: {web_config: " + users + "}\nfleet: {client: {username: ops, password_file: " + password + "}}", false},
		"no password":               {"health: {web_config: " + open + "}", false},
		"a password and no port":    {"health: {listen: '', web_config: " + users + "}", false},
		"neither a file nor a user": {"", false},
	} {
		_, warnings, err := parse("runqy.yaml", []byte(tc.config), Options{})
		if err != nil {
			t.Errorf("%s: got the error %v, want none", name, err)
		}
		if warned := strings.Contains(strings.Join(warnings, "\n"), "fleet.client.username is not set"); warned != tc.warned {
			t.Errorf("%s: warnings %q, want one of the password: %v", name, warnings, tc.warned)
		}
	}
}
