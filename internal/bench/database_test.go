//go:build linux

package bench_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
	"lablink/internal/pgserver"
	"lablink/internal/store"
)

// database is a PostgreSQL server on disk, as durable as a real installation's,
// with LabLink's tables and a fleet of registered machines.
type database struct {
	tb       testing.TB
	server   *pgserver.Server
	store    *store.Store
	admin    *pgx.Conn // the superuser, on LabLink's database
	machines []machine
}

func newDatabase(tb testing.TB, machines int) *database {
	tb.Helper()
	ctx := context.Background()
	d := &database{tb: tb}
	var err error
	d.server, err = pgserver.Start(ctx, pgserver.Options{Dir: filepath.Join(folder(tb), "pg"), DieWithParent: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.server.Stop(ctx); err != nil {
			tb.Error(err)
		}
	})
	if err := store.Migrate(ctx, d.url()); err != nil {
		tb.Fatal(err)
	}
	if d.store, err = store.Open(ctx, d.url()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(d.store.Close)
	admin, err := url.Parse(d.server.AdminURL())
	if err != nil {
		tb.Fatal(err)
	}
	admin.Path = "/lablink"
	if d.admin, err = pgx.Connect(ctx, admin.String()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { d.admin.Close(ctx) })
	d.exec(`SET session_replication_role = replica`) // no notifications from here
	for _, setting := range []string{"fsync", "synchronous_commit"} {
		var value string
		if err := d.admin.QueryRow(ctx, "SELECT current_setting($1)", setting).Scan(&value); err != nil || value != "on" {
			tb.Fatalf("%s is %q, %v: this would measure another database than people have", setting, value, err)
		}
	}
	d.register(machines)
	d.exec(`CREATE TABLE floor AS SELECT id, 0 AS n FROM generate_series(1, greatest(1, $1)) AS id`, machines)
	d.exec(`ALTER TABLE floor ADD PRIMARY KEY (id)`)
	d.exec(`GRANT ALL ON floor TO lablink`)
	d.exec(`VACUUM ANALYZE`)
	return d
}

func (d *database) url() string { return d.server.URL() }

func (d *database) exec(sql string, args ...any) {
	d.tb.Helper()
	if _, err := d.admin.Exec(context.Background(), sql, args...); err != nil {
		d.tb.Fatalf("%s: %v", sql, err)
	}
}

func (d *database) register(n int) {
	d.tb.Helper()
	var names []string
	var hashes [][]byte
	for i := range n {
		m := machine{fmt.Sprintf("vm-%05d", i), fleet.NewToken()}
		d.machines = append(d.machines, m)
		names, hashes = append(names, m.hostname), append(hashes, fleet.HashToken(m.token))
	}
	if err := d.store.RegisterVMs(context.Background(), fleet.Actor{Kind: "admin"}, names, hashes, n); err != nil {
		d.tb.Fatal(err)
	}
	d.exec(`UPDATE vms SET status = 'running'`)
}

// waiting counts the VMs that wait at the replica which started last.
func (d *database) waiting() (n int) {
	d.tb.Helper()
	err := d.admin.QueryRow(context.Background(), `SELECT count(*) FROM polls
		WHERE replica = (SELECT id FROM replicas ORDER BY started_at DESC LIMIT 1)`).Scan(&n)
	if err != nil {
		d.tb.Fatal(err)
	}
	return n
}

// vacate makes all VMs free again, and the tables as they were.
func (d *database) vacate() {
	d.tb.Helper()
	d.exec(`UPDATE vms SET seat = 'none', seat_reason = '', useremail = NULL, crdcommand = NULL, pin = NULL,
		seat_id = NULL, seat_since = NULL, delivery = NULL WHERE seat <> 'none'`)
	d.exec(`TRUNCATE crd_codes, seat_sessions`)
	d.exec(`VACUUM ANALYZE vms`)
}

// pretend makes all VMs wait at a replica that does not exist, and forget ends it.
func (d *database) pretend() {
	d.tb.Helper()
	d.exec(`INSERT INTO replicas (id, heartbeat_at) VALUES (1, now() + interval '1 hour')`)
	d.exec(`INSERT INTO polls (vm, replica, poll) SELECT id, 1, id FROM vms`)
	d.exec(`ANALYZE polls, replicas`)
}

func (d *database) forget() {
	d.tb.Helper()
	d.exec(`DELETE FROM polls WHERE replica = 1`)
	d.exec(`DELETE FROM replicas WHERE id = 1`)
}

// listen opens a connection that hears the floor's notifications until the
// returned function is called.
func (d *database) listen(heard func(payload string)) (stop func()) {
	d.tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := pgx.Connect(ctx, d.url())
	if err != nil {
		d.tb.Fatal(err)
	}
	if _, err := conn.Exec(ctx, "LISTEN floor"); err != nil {
		d.tb.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				return
			}
			heard(n.Payload)
		}
	})
	return func() {
		cancel()
		group.Wait()
		conn.Close(context.Background())
	}
}

// pgbench returns how many updates with a notification this server makes a second.
func (d *database) pgbench(rows, clients int, level time.Duration) float64 {
	d.tb.Helper()
	for seconds := max(1, int(level.Seconds())); seconds < 100; seconds *= 2 {
		if tps := d.tps(rows, clients, seconds); tps > 0 {
			return tps
		}
	}
	d.tb.Fatal("pgbench completes nothing")
	return 0
}

// tps is 0 if nothing was completed in that time.
func (d *database) tps(rows, clients, seconds int) float64 {
	d.tb.Helper()
	u, err := url.Parse(d.url())
	if err != nil {
		d.tb.Fatal(err)
	}
	script := filepath.Join(folder(d.tb), "script")
	if err := os.WriteFile(script, fmt.Appendf(nil, "\\set id random(1, %d)\n"+
		"WITH u AS (UPDATE floor SET n = n + 1 WHERE id = :id RETURNING id) SELECT pg_notify('floor', id::text) FROM u;\n", rows), 0o600); err != nil {
		d.tb.Fatal(err)
	}
	stop := d.listen(func(string) {})
	defer stop()
	cmd := exec.CommandContext(context.Background(), program(d.tb, "pgbench"), "-n", "-M", "prepared", "-f", script, "-c", strconv.Itoa(clients),
		"-j", strconv.Itoa(min(clients, 2)), "-T", strconv.Itoa(seconds))
	password, _ := u.User.Password()
	cmd.Env = append(environment(nil), "PGHOST="+u.Query().Get("host"), "PGPORT="+u.Query().Get("port"),
		"PGUSER="+u.User.Username(), "PGPASSWORD="+password, "PGDATABASE="+strings.TrimPrefix(u.Path, "/"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.tb.Fatalf("pgbench: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "tps" {
			if tps, err := strconv.ParseFloat(f[2], 64); err == nil {
				return tps
			}
		}
	}
	return 0
}

// program finds one of PostgreSQL's, the newest.
func program(tb testing.TB, name string) string {
	tb.Helper()
	var places []string
	if dir, err := exec.CommandContext(context.Background(), "pg_config", "--bindir").Output(); err == nil {
		places = append(places, filepath.Join(strings.TrimSpace(string(dir)), name))
	}
	more, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name) // the only error is a bad pattern
	for i := range more {
		places = append(places, more[len(more)-1-i])
	}
	for _, path := range places {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		tb.Fatalf("%s of PostgreSQL is needed: %v", name, err)
	}
	return path
}
