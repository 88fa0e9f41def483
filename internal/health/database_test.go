package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/internal/status"
)

// fakePostgres speaks as much of the protocol as SELECT 1 needs.
type fakePostgres struct {
	l  net.Listener
	wg sync.WaitGroup

	mu       sync.Mutex // guards the rest
	password string
	mute     bool // reads and does not answer
	conns    map[net.Conn]bool
	logins   int
	queries  int
}

func startFakePostgres(t *testing.T) *fakePostgres {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &fakePostgres{l: l, password: "s3cret-w0rd", conns: make(map[net.Conn]bool)}
	p.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns[conn] = true
			p.mu.Unlock()
			p.wg.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *fakePostgres) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *fakePostgres) setMute(mute bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = mute
}

func (p *fakePostgres) counts() (logins, queries int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.logins, p.queries
}

func (p *fakePostgres) url(password string) string {
	return fmt.Sprintf("postgres://probe:%s@%s/app?sslmode=disable", url.QueryEscape(password), p.l.Addr())
}

func (p *fakePostgres) serve(conn net.Conn) {
	defer conn.Close()
	b := pgproto3.NewBackend(conn, conn)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	b.Send(&pgproto3.AuthenticationCleartextPassword{})
	if p.silent() || b.Flush() != nil {
		p.swallow(conn)
		return
	}
	if err := b.SetAuthType(pgproto3.AuthTypeCleartextPassword); err != nil {
		return
	}
	msg, err := b.Receive()
	if err != nil {
		return
	}
	if pw, ok := msg.(*pgproto3.PasswordMessage); !ok || pw.Password != p.password {
		// As no decent server would: the password is in the message.
		b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: "password rejected: " + msg.(*pgproto3.PasswordMessage).Password})
		_ = b.Flush()
		return
	}
	p.mu.Lock()
	p.logins++
	p.mu.Unlock()
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for {
		if b.Flush() != nil {
			return
		}
		msg, err := b.Receive()
		if err != nil {
			return
		}
		if p.silent() {
			p.swallow(conn)
			return
		}
		if _, ok := msg.(*pgproto3.Query); !ok {
			return
		}
		p.mu.Lock()
		p.queries++
		p.mu.Unlock()
		b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
}

func (p *fakePostgres) silent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mute
}

func (p *fakePostgres) swallow(conn net.Conn) {
	var buf bytes.Buffer
	_, _ = buf.ReadFrom(conn)
}

func mustDatabase(t *testing.T, url string) *database {
	t.Helper()
	d, err := newDatabase(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

func check(t *testing.T, d *database, timeout time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return d.check(ctx)
}

func TestDatabaseKeepsItsConnectionAndReconnects(t *testing.T) {
	p := startFakePostgres(t)
	d := mustDatabase(t, p.url(p.password))
	for range 3 {
		if err := check(t, d, 20*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if logins, queries := p.counts(); logins != 1 || queries != 3 {
		t.Errorf("the database saw %d logins and %d queries, want one login for all", logins, queries)
	}
	p.cut() // a restarted server: found out and made good within one check
	if err := check(t, d, 20*time.Second); err != nil {
		t.Errorf("the check failed: %v", err)
	}
	if logins, _ := p.counts(); logins != 2 {
		t.Errorf("the database saw %d logins after a cut, want 2", logins)
	}
}

func TestDatabaseThatNeverAnswers(t *testing.T) {
	p := startFakePostgres(t)
	d := mustDatabase(t, p.url(p.password))
	p.setMute(true)
	if err := check(t, d, 300*time.Millisecond); err == nil { // during the login
		t.Error("a database that does not answer gives no error, want one")
	}
	p.setMute(false)
	if err := check(t, d, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	p.setMute(true)
	if err := check(t, d, 300*time.Millisecond); err == nil { // during the query
		t.Error("a database that does not answer gives no error, want one")
	}
	if d.conn != nil {
		t.Error("the dead connection is kept")
	}
	p.setMute(false)
	if err := check(t, d, 20*time.Second); err != nil {
		t.Errorf("the check failed: %v", err)
	}
}

func TestDatabaseErrorsHideThePassword(t *testing.T) {
	p := startFakePostgres(t)
	const wrong = "hunter2 & co"
	d := mustDatabase(t, p.url(wrong))
	err := check(t, d, 20*time.Second)
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "rejected: xxxxx") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v, want one line that hides the password", err)
	}
	for _, bad := range []string{
		"postgres://probe:hunter2%zz@host/app", "postgres://probe:hunter2@host:port/app", "mysql://probe:hunter2@host/app",
		"hunter2", "postgres://probe:hunter2@host/app?sslmode=hunter2", "postgres://probe:hun:ter2@[host/app?password=hunter2",
	} {
		_, err := NewDependencies(DependenciesOptions{DatabaseURL: bad})
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "health.database_url") ||
			!strings.Contains(err.Error(), "want postgres://") || errors.Unwrap(err) != nil {
			t.Errorf("URL %s: error %v, want one that hides the password and names health.database_url", bad, err)
		}
	}
}

func TestDependenciesWithADatabase(t *testing.T) {
	p := startFakePostgres(t)
	d, err := NewDependencies(DependenciesOptions{Consumption: func() Consumption { return Consumption{} }, DatabaseURL: p.url(p.password), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	d.database.interval = 50 * time.Millisecond
	d.database.timeout = 500 * time.Millisecond
	defer run(t, d)()
	eventually(t, "healthy", func() bool { return d.Health(process).Healthy })
	p.setMute(true)
	eventually(t, "the mute database is noticed", func() bool {
		h := d.Health(process)
		return h.Database == status.Unhealthy && h.Broker == status.Healthy && !h.Healthy
	})
	p.setMute(false)
	eventually(t, "healthy again", func() bool { return d.Health(process).Healthy })
}

// startPostgres runs a real server in a new data directory; the test is skipped where PostgreSQL is not installed. The
// fake above covers the rest.
func startPostgres(t *testing.T) (connURL string, signal func(syscall.Signal)) {
	t.Helper()
	bin := findPostgres()
	if bin == "" {
		if os.Getenv("RUNQY_TEST_REQUIRE") == "1" {
			t.Fatal("PostgreSQL (initdb, postgres) is not installed")
		}
		t.Skip("PostgreSQL (initdb, postgres) is not installed")
	}
	dir := socketDir(t)
	var cred *syscall.Credential
	if os.Getuid() == 0 { // the server refuses to run as root
		uid, gid := lookupPostgres(t)
		cred = &syscall.Credential{Uid: uid, Gid: gid}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			t.Fatal(err)
		}
	}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir = dir
		cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
		return cmd
	}
	data := filepath.Join(dir, "data")
	pwfile := filepath.Join(dir, "pw")
	if err := os.WriteFile(pwfile, []byte("s3cret-w0rd\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := command("initdb", "-D", data, "-U", "probe", "-A", "scram-sha-256", "--pwfile", pwfile, "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	port := redistest.FreePort(t)
	cmd := command("postgres", "-D", data, "-k", dir, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Signal(syscall.SIGQUIT) // an immediate shutdown takes its children along
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("postgres:\n%s", log.String())
		}
	})
	return fmt.Sprintf("postgres://probe:s3cret-w0rd@127.0.0.1:%d/postgres", port), func(s syscall.Signal) { _ = cmd.Process.Signal(s) }
}

func findPostgres() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[len(found)-1])
}

func lookupPostgres(t *testing.T) (uid, gid uint32) {
	t.Helper()
	var ids [2]uint32
	for i, flag := range []string{"-u", "-g"} {
		out, err := exec.Command("id", flag, "postgres").Output()
		if err != nil {
			t.Skipf("no user postgres to run the server as: %v", err)
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(out)), 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = uint32(n)
	}
	return ids[0], ids[1]
}

func TestRealPostgres(t *testing.T) {
	connURL, signal := startPostgres(t)
	d := mustDatabase(t, connURL)
	eventually(t, "an answer", func() bool { return check(t, d, 5*time.Second) == nil })
	if err := check(t, d, 20*time.Second); err != nil {
		t.Errorf("the check failed: %v", err)
	}
	wrong := mustDatabase(t, strings.Replace(connURL, "s3cret-w0rd", "wr0ng-w0rd", 1))
	if err := check(t, wrong, 20*time.Second); err == nil || !strings.Contains(err.Error(), "28P01") || strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("wrong password: %v", err)
	}
	// Only the postmaster is frozen: it is the one that lets new clients in.
	signal(syscall.SIGSTOP)
	fresh := mustDatabase(t, connURL)
	if err := check(t, fresh, time.Second); err == nil {
		t.Error("a frozen server let us in")
	}
	signal(syscall.SIGCONT)
	if err := check(t, fresh, 20*time.Second); err != nil {
		t.Errorf("the check failed: %v", err)
	}
}
