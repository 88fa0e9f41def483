package rpc

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
)

// secrets are what the files of a client hold.
type secrets struct {
	tls           *tls.Config
	authorization string // value of the header; empty: none
}

func (o ClientOptions) readSecrets() (*secrets, error) {
	s := &secrets{tls: &tls.Config{MinVersion: tls.VersionTLS12}}
	if o.CAFile != "" {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("fleet.client.ca_file: %w", err)
		}
		s.tls.RootCAs = x509.NewCertPool()
		if !s.tls.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("fleet.client.ca_file %s holds no certificate in PEM", o.CAFile)
		}
	}
	if o.Username != "" {
		text, err := os.ReadFile(o.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("fleet.client.password_file: %w", err)
		}
		password := strings.TrimSpace(string(text))
		if password == "" {
			return nil, fmt.Errorf("fleet.client.password_file %s is empty", o.PasswordFile)
		}
		s.authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(o.Username+":"+password))
	}
	return s, nil
}
