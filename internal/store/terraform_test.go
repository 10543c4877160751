package store_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"io"
	"maps"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/store"
	"lablink/internal/testkit"
)

// front is a TCP address in front of a database, with TLS if it has a
// certificate. It returns the URL without parameters.
func front(t *testing.T, database *url.URL, cert *tls.Certificate) *url.URL {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	socket := filepath.Join(database.Query().Get("host"), ".s.PGSQL."+database.Query().Get("port"))
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connections.Go(func() { forward(conn, socket, cert) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		connections.Wait()
	})
	return &url.URL{Scheme: "postgres", User: database.User, Host: l.Addr().String(), Path: database.Path}
}

func forward(conn net.Conn, socket string, cert *tls.Certificate) {
	defer conn.Close()
	first := make([]byte, 8)
	if _, err := io.ReadFull(conn, first); err != nil {
		return
	}
	const sslRequest = 80877103
	if cert != nil && binary.BigEndian.Uint32(first[4:]) == sslRequest {
		if _, err := conn.Write([]byte("S")); err != nil {
			return
		}
		conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12})
		first = nil
	}
	server, err := (&net.Dialer{}).DialContext(context.Background(), "unix", socket)
	if err != nil {
		return
	}
	defer server.Close()
	if _, err := server.Write(first); err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(server, conn)
		server.Close()
	})
	_, _ = io.Copy(conn, server)
	conn.Close()
	wg.Wait()
}

// certificate makes one for 127.0.0.1, and a file that vouches for it.
func certificate(t *testing.T) (*tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	path := filepath.Join(t.TempDir(), "root ca+.pem")
	must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

// Terraform's driver gets what this connection came to, and no more than it
// understands.
func TestTerraformURL(t *testing.T) {
	t.Parallel()
	cert, root := certificate(t)
	socket, err := url.Parse(testkit.DB(t))
	must(t, err)
	plain, secure := front(t, socket, nil), front(t, socket, cert)
	socketQuery := map[string]string{"sslmode": "disable", "host": socket.Query().Get("host"), "port": socket.Query().Get("port")}
	for name, tc := range map[string]struct {
		base  *url.URL
		given url.Values
		want  map[string]string // parameters
	}{
		"a socket":                {socket, url.Values{"host": {socket.Query().Get("host")}, "port": {socket.Query().Get("port")}}, socketQuery},
		"a socket, and pool":      {socket, url.Values{"host": {socket.Query().Get("host")}, "port": {socket.Query().Get("port")}, "pool_max_conns": {"3"}, "sslmode": {"prefer"}}, socketQuery},
		"plain by default":        {plain, nil, map[string]string{"sslmode": "disable"}},
		"plain, preferring TLS":   {plain, url.Values{"sslmode": {"prefer"}, "pool_max_conns": {"4"}, "pool_min_conns": {"1"}}, map[string]string{"sslmode": "disable"}},
		"plain, allowing TLS":     {plain, url.Values{"sslmode": {"allow"}}, map[string]string{"sslmode": "disable"}},
		"plain as asked":          {secure, url.Values{"sslmode": {"disable"}}, map[string]string{"sslmode": "disable"}},
		"TLS by default":          {secure, nil, map[string]string{"sslmode": "require"}},
		"TLS, preferred":          {secure, url.Values{"sslmode": {"prefer"}, "application_name": {"mine"}, "pool_max_conns": {"4"}}, map[string]string{"sslmode": "require"}},
		"TLS, required":           {secure, url.Values{"sslmode": {"require"}, "connect_timeout": {"9"}}, map[string]string{"sslmode": "require"}},
		"TLS that is looked at":   {secure, url.Values{"sslmode": {"verify-full"}, "sslrootcert": {root}}, map[string]string{"sslmode": "verify-full", "sslrootcert": root}},
		"TLS, its root looked at": {secure, url.Values{"sslmode": {"verify-ca"}, "sslrootcert": {root}, "statement_timeout": {"30s"}}, map[string]string{"sslmode": "verify-ca", "sslrootcert": root}},
	} {
		given := *tc.base
		given.RawQuery = strings.ReplaceAll(tc.given.Encode(), "+", "%20")
		s, err := store.Open(t.Context(), given.String())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := s.TerraformURL(t.Context())
		must(t, err)
		must(t, s.Ping(t.Context())) // the connection was given back
		s.Close()
		u, err := url.Parse(got)
		must(t, err)
		if strings.Contains(u.RawQuery, "+") {
			t.Errorf("%s: %s has a plus sign, which libpq does not take for a space", name, u.RawQuery)
		}
		params := map[string]string{}
		for k := range u.Query() {
			params[k] = u.Query().Get(k)
		}
		if !maps.Equal(params, tc.want) || u.Scheme != "postgres" || u.User.String() != tc.base.User.String() || u.Path != tc.base.Path {
			t.Errorf("%s: %s became\n%s", name, &given, u.Redacted())
		}
		conn, err := pgx.Connect(t.Context(), got)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var database string
		must(t, conn.QueryRow(t.Context(), `SELECT current_database()`).Scan(&database))
		if "/"+database != socket.Path {
			t.Errorf("%s leads to %s", name, database)
		}
		must(t, conn.Close(t.Context()))
	}
}

// A password may hold whatever people think of.
func TestTerraformURL_OddPassword(t *testing.T) {
	t.Parallel()
	server := testkit.RawServer(t)
	const odd = `p@ss:w/o?r#d%20 +&='"\ä`
	conn, err := pgx.Connect(t.Context(), server.AdminURL())
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), `ALTER ROLE lablink PASSWORD '`+strings.ReplaceAll(odd, "'", "''")+`'`)
	must(t, err)
	u, err := url.Parse(server.URL())
	must(t, err)
	u.User = url.UserPassword("lablink", odd)
	u = &url.URL{Scheme: "postgresql", User: u.User, Path: u.Path, RawQuery: u.RawQuery}
	for _, base := range []*url.URL{u, front(t, u, nil)} {
		s, err := store.Open(t.Context(), base.String())
		must(t, err)
		got, err := s.TerraformURL(t.Context())
		must(t, err)
		s.Close()
		again, err := pgx.Connect(t.Context(), got)
		must(t, err)
		must(t, again.Close(t.Context()))
	}
}
