package store

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// TerraformURL is the URL of this database as Terraform's pg backend takes it.
// Its driver knows neither pgx's settings of the pool nor the sslmode that falls
// back to no TLS, and it must find the same server whatever environment it
// has: what this connection came to is written out.
func (s *Store) TerraformURL(ctx context.Context) (string, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return "", err
	}
	// The server's own view would be that of its connection to a proxy.
	_, encrypted := conn.Conn().PgConn().Conn().(*tls.Conn)
	conn.Release()
	cfg := s.pool.Config()
	given, err := url.Parse(cfg.ConnString())
	if err != nil {
		return "", err
	}
	// Neither pgx nor libpq reads a plus sign as a space.
	params, err := url.ParseQuery(strings.ReplaceAll(given.RawQuery, "+", "%2B"))
	if err != nil {
		return "", err
	}
	q := url.Values{"sslmode": {"disable"}}
	if encrypted {
		q.Set("sslmode", "require")
		for _, name := range []string{"sslmode", "sslrootcert", "sslcert", "sslkey"} {
			if v := params.Get(name); v != "" && v != "prefer" && v != "allow" {
				q.Set(name, v)
			}
		}
	}
	c := cfg.ConnConfig
	port := strconv.Itoa(int(c.Port))
	u := url.URL{Scheme: "postgres", User: url.UserPassword(c.User, c.Password), Path: "/" + c.Database}
	if strings.HasPrefix(c.Host, "/") {
		q.Set("host", c.Host) // the folder of a Unix socket
		q.Set("port", port)
	} else {
		u.Host = net.JoinHostPort(c.Host, port)
	}
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	return u.String(), nil
}
