// Package store keeps everything that must survive in PostgreSQL. It is the only
// package with SQL: one file per aggregate, each statement beside its method.
//
// Changes of state are single statements that name the states they may start
// from, so that no caller can act on a stale copy, and two replicas need no lock
// between them. Triggers send the notifications, so that they are delivered
// exactly when the change is.
package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// maxConns bounds the pool of one replica unless the URL says pool_max_conns:
// five replicas fit into PostgreSQL's default of 100 connections.
const maxConns = 16

// Store is a pool of connections to one database. Its methods are safe for
// concurrent use.
type Store struct {
	pool *pgxpool.Pool
}

// Open connects to the database at a postgres:// URL and checks that it answers.
func Open(ctx context.Context, databaseURL string) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	if !strings.Contains(databaseURL, "pool_max_conns") {
		cfg.MaxConns = maxConns // pgx's own default follows the number of processors
	}
	setDefaults(cfg.ConnConfig)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("database does not answer: %w", err)
	}
	return &Store{pool: pool}, nil
}

// setDefaults applies to pool and LISTEN connections alike.
func setDefaults(c *pgx.ConnConfig) {
	defaults := map[string]string{
		"application_name":  "lablink",
		"timezone":          "UTC",
		"statement_timeout": "30s", // no statement of ours takes a second; a stuck one must not hold a connection
	}
	for k, v := range defaults {
		if _, set := c.RuntimeParams[k]; !set {
			c.RuntimeParams[k] = v
		}
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 10 * time.Second
	}
}

// Close waits for connections in use and closes the pool.
func (s *Store) Close() { s.pool.Close() }

// Ping checks that the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.pool.Ping(ctx) }

// Stat returns the pool's counters, for the metrics.
func (s *Store) Stat() *pgxpool.Stat { return s.pool.Stat() }

// Migrate brings the schema of the database to this program's version. Replicas
// that start together take turns by an advisory lock. A database that is newer
// than the program is refused.
func Migrate(ctx context.Context, databaseURL string) error {
	// As a pool's, because the URL may have settings of the pool.
	cfg, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return fmt.Errorf("database URL: %w", err)
	}
	db := stdlib.OpenDB(*cfg.ConnConfig)
	defer func() { _ = db.Close() }()
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, sub, goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("migrate: read the schema's version: %w", err)
	}
	if current > target {
		return fmt.Errorf("migrate: the database has schema version %d, this lablink knows only %d: use the newer lablink", current, target)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// deadlockTries is how often a transaction is tried that PostgreSQL chose to end
// a deadlock with: statements over many VMs lock their rows in any order.
const deadlockTries = 5

// transact runs f in a transaction, committed if f returns nil. f may be called
// again after a deadlock.
func (s *Store) transact(ctx context.Context, f func(tx pgx.Tx) error) error {
	for tries := 1; ; tries++ {
		err := pgx.BeginFunc(ctx, s.pool, f)
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "40P01" || tries == deadlockTries {
			return err
		}
	}
}

// violated returns the name of the unique constraint that refused a statement,
// or "".
func violated(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "23505" {
		return pg.ConstraintName
	}
	return ""
}
