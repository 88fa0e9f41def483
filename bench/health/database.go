package main

import (
	"context"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// startDatabase has the worker be configured with a database, which is behind d.database, and whose tasks need it.
func startDatabase(ctx context.Context, d *bed) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen as a database: %w", err)
	}
	d.meanwhile(ctx, func(ctx context.Context) {
		stop := context.AfterFunc(ctx, func() { _ = l.Close() })
		defer stop()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			d.running.Go(func() { serveDatabase(ctx, conn) })
		}
	})
	if d.database, err = programs.StartProxy(ctx, l.Addr().String(), 0); err != nil {
		return err
	}
	d.atEnd(d.database.Stop)
	d.env = append(d.env, "RUNQY_HEALTH_DATABASE_URL=postgres://probe@"+d.database.Addr+"/app?sslmode=disable", "HEALTH_BENCH_DATABASE="+d.database.Addr)
	return nil
}

// serveDatabase speaks as much of PostgreSQL's protocol as SELECT 1 needs.
func serveDatabase(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	b := pgproto3.NewBackend(conn, conn)
	for {
		first, err := b.ReceiveStartupMessage()
		if err != nil {
			return
		}
		if _, asks := first.(*pgproto3.SSLRequest); !asks {
			break
		}
		if _, err := conn.Write([]byte("N")); err != nil {
			return
		}
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	for {
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if b.Flush() != nil {
			return
		}
		if message, err := b.Receive(); err != nil {
			return
		} else if _, ok := message.(*pgproto3.Query); !ok {
			return
		}
		b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
	}
}
