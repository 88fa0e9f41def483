package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// StartTLS is Start for a server that speaks TLS only, with a certificate for 127.0.0.1 and localhost from an authority
// made for this test (CAFile). It asks clients for a certificate when args contain "--tls-auth-clients yes"; CertFile
// and KeyFile satisfy it.
func StartTLS(t testing.TB, args ...string) *Server {
	t.Helper()
	requireBinary(t)
	dir := t.TempDir()
	ca, cert, key := Certificates(t, dir)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	pool := x509.NewCertPool()
	authority, err := os.ReadFile(ca)
	if err != nil || !pool.AppendCertsFromPEM(authority) {
		t.Fatalf("redistest: cannot use %s: %v", ca, err)
	}
	port := strconv.Itoa(FreePort(t))
	addr := net.JoinHostPort("127.0.0.1", port)
	password := argument(args, "--requirepass")
	if argument(args, "--tls-auth-clients") == "" {
		args = append([]string{"--tls-auth-clients", "no"}, args...)
	}
	s := &Server{
		Addr:   addr,
		URL:    "rediss://" + userinfo(password) + addr + "/0?ca_file=" + ca,
		Dir:    dir,
		CAFile: ca, CertFile: cert, KeyFile: key,
		args: append([]string{"--port", "0", "--tls-port", port, "--bind", "127.0.0.1",
			"--tls-ca-cert-file", ca, "--tls-cert-file", cert, "--tls-key-file", key}, args...),
		opts: &redis.Options{Addr: addr, Password: password, TLSConfig: &tls.Config{
			RootCAs: pool, Certificates: []tls.Certificate{pair}, ServerName: "localhost", MinVersion: tls.VersionTLS12}},
	}
	if err := s.launch(t); err != nil {
		t.Fatalf("redistest: %v", err)
	}
	return s
}

// Certificates writes into dir an authority made for this test and one certificate of it for 127.0.0.1 and localhost,
// which serves as a server's and as a client's, and returns the paths of the files.
func Certificates(t testing.TB, dir string) (ca, cert, key string) {
	t.Helper()
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("redistest: certificates: %v", err)
		}
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		fatal(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(err)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redistest authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, &authorityKey.PublicKey, authorityKey)
	fatal(err)
	ca = write("ca.pem", "CERTIFICATE", der)

	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err = x509.CreateCertificate(rand.Reader, leaf, authority, &leafKey.PublicKey, authorityKey)
	fatal(err)
	cert = write("cert.pem", "CERTIFICATE", der)
	der, err = x509.MarshalECPrivateKey(leafKey)
	fatal(err)
	key = write("key.pem", "EC PRIVATE KEY", der)
	return ca, cert, key
}
