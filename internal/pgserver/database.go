package pgserver

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
)

const (
	superuser = "postgres"
	role      = "lablink" // also the name of its database
)

func lablinkURL(socket, password string) string {
	return socketURL(url.UserPassword(role, password), role, socket)
}

func adminURL(socket string) string { return socketURL(url.User(superuser), superuser, socket) }

// socketURL writes down all that a client would otherwise take from its
// environment.
func socketURL(who *url.Userinfo, database, socket string) string {
	q := url.Values{"host": {socket}, "port": {socketPort}, "sslmode": {"disable"}}
	u := url.URL{
		Scheme: "postgres",
		User:   who,
		Path:   "/" + database,
		// libpq does not read a plus sign as a space.
		RawQuery: strings.ReplaceAll(q.Encode(), "+", "%20"),
	}
	return u.String()
}

// ensureDatabase makes the role and its database where they are absent, and sets
// the password to the stored one: the file may be new, or from a backup.
func (s *Server) ensureDatabase(ctx context.Context) error {
	admin, err := pgx.Connect(ctx, s.AdminURL())
	if err != nil {
		return err
	}
	defer admin.Close(context.WithoutCancel(ctx))

	var hasRole, hasDatabase bool
	err = admin.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1),
		EXISTS (SELECT FROM pg_database WHERE datname = $1)`, role).Scan(&hasRole, &hasDatabase)
	if err != nil {
		return err
	}
	verb := "ALTER"
	if !hasRole {
		verb = "CREATE"
	}
	for _, sql := range []string{
		// The password must not reach the log, however it is configured.
		`SET log_statement = 'none'`,
		`SET log_min_duration_statement = -1`,
		fmt.Sprintf(`%s ROLE %s LOGIN PASSWORD '%s'`, verb, role, s.pass),
	} {
		if _, err := admin.Exec(ctx, sql); err != nil {
			return fmt.Errorf("role %s: %w", role, err)
		}
	}
	if !hasDatabase {
		if _, err := admin.Exec(ctx, `CREATE DATABASE `+role+` OWNER `+role); err != nil {
			return fmt.Errorf("database %s: %w", role, err)
		}
	}

	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return fmt.Errorf("connect as %s: %w", role, err)
	}
	return conn.Close(ctx)
}
