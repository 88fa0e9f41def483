package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// database asks a PostgreSQL server whether it answers, over one connection that is kept between the checks. It is used
// by one goroutine.
type database struct {
	config  *pgconn.Config
	secrets []string // what an error must never show
	conn    *dbConn  // nil: none is open
}

type dbConn struct {
	pg      *pgconn.PgConn
	sockets *sockets
}

// sockets are the network connections below one dbConn (below any TLS too), kept so that they can be closed under a
// driver that still waits on them.
type sockets struct {
	mu     sync.Mutex // guards the rest: the driver dials from goroutines of its own, too
	open   []net.Conn
	sealed bool // no more are wanted
}

var errSealed = errors.New("cancel requests are not sent")

// dialer wraps dial, so that what it opens is kept until the sockets are sealed and nothing is opened afterwards. That
// also ends the cancel request which pgconn sends for a query it gave up: SELECT 1 is not worth one, and a server that
// is frozen would hold it for 15 s.
func (s *sockets) dialer(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		s.mu.Lock()
		sealed := s.sealed
		s.mu.Unlock()
		if sealed {
			return nil, errSealed
		}
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.sealed {
			_ = conn.Close()
			return nil, errSealed
		}
		s.open = append(s.open, conn)
		return conn, nil
	}
}

func (s *sockets) seal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = true
}

func (s *sockets) close() {
	s.seal()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.open {
		_ = conn.Close()
	}
}

// newDatabase reads the URL. Environment variables that PostgreSQL's own clients know (PGSSLMODE, PGPASSWORD, …) fill
// in what it leaves open.
func newDatabase(rawURL string) (*database, error) {
	const want = "want postgres://user:password@host:5432/name"
	// The parsers' own errors may repeat parts of what they could not read.
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("health.database_url: not a URL (%s; write special characters in the password as %%XX)", want)
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, fmt.Errorf("health.database_url: scheme %q is not known: %s", u.Scheme, want)
	}
	config, err := pgconn.ParseConfig(rawURL)
	if err != nil {
		return nil, fmt.Errorf("health.database_url: not a usable PostgreSQL URL (%s), or a setting behind the ? is wrong", want)
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "runqy-worker healthcheck"
	}
	d := &database{config: config}
	for _, s := range []string{config.Password, url.QueryEscape(config.Password), url.PathEscape(config.Password)} {
		// Replacing a word of one or two letters would garble the message and hide nothing.
		if len(s) > 2 {
			d.secrets = append(d.secrets, s)
		}
	}
	return d, nil
}

// check sends SELECT 1, connecting first where needed. A connection that was open is given a second chance: the server
// may have been restarted since.
func (d *database) check(ctx context.Context) error {
	if d.conn != nil {
		if d.ask(ctx) == nil {
			return nil
		}
		d.drop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if err := d.connect(ctx); err != nil {
		return d.redact(err)
	}
	if err := d.ask(ctx); err != nil {
		d.drop()
		return d.redact(err)
	}
	return nil
}

func (d *database) ask(ctx context.Context) error {
	if _, err := d.conn.pg.Exec(ctx, "SELECT 1").ReadAll(); err != nil {
		return fmt.Errorf("SELECT 1: %w", err)
	}
	return nil
}

func (d *database) connect(ctx context.Context) error {
	conn := &dbConn{sockets: &sockets{}}
	config := d.config.Copy()
	config.DialFunc = conn.sockets.dialer(config.DialFunc)
	pg, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		conn.sockets.close()
		return err
	}
	conn.sockets.seal()
	conn.pg = pg
	d.conn = conn
	return nil
}

// drop closes a connection that failed, without ceremony.
func (d *database) drop() {
	conn := d.conn
	d.conn = nil
	// With its socket closed the driver's own clean-up ends at once.
	conn.sockets.close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.pg.Close(ctx)
	<-conn.pg.CleanupDone()
}

// close takes leave of the server.
func (d *database) close() {
	if d.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = d.conn.pg.Close(ctx)
	d.drop()
}

// redact makes one line of err, free of the password.
func (d *database) redact(err error) error {
	text := strings.Join(strings.Fields(err.Error()), " ")
	for _, s := range d.secrets {
		text = strings.ReplaceAll(text, s, "xxxxx")
	}
	return errors.New(text)
}
