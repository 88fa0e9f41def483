package rpc

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"

	"github.com/runqy/runqy-worker/internal/config"
)

// secrets are what the files of a client hold.
type secrets struct {
	tls           *tls.Config
	authorization string // value of the header; empty: none
}

func (o ClientOptions) readSecrets() (*secrets, error) {
	s := &secrets{tls: &tls.Config{MinVersion: tls.VersionTLS12}}
	if o.CAFile != "" {
		authorities, err := config.ReadAuthorities(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("fleet.client.ca_file: %w", err)
		}
		s.tls.RootCAs = authorities
	}
	if o.Username != "" {
		password, err := config.ReadPassword(o.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("fleet.client.password_file: %w", err)
		}
		s.authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(o.Username+":"+password))
	}
	return s, nil
}
