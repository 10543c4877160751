package testkit

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { Main(m) }

func query(t *testing.T, url, sql string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupTime)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var got string
	if err := conn.QueryRow(ctx, sql).Scan(&got); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

func TestDB(t *testing.T) {
	t.Parallel()
	url := DB(t)
	if url == DB(t) {
		t.Fatal("two databases are the same")
	}
	// The tables are there, and belong to the role that programs use.
	if got := query(t, url, "SELECT tableowner FROM pg_tables WHERE tablename = 'vms'"); got != "lablink" {
		t.Errorf("vms belongs to %q", got)
	}
	if got := query(t, url, "SELECT count(*)::text FROM vms"); got != "0" {
		t.Errorf("%s rows in a new database", got)
	}
	if got := query(t, url, "SHOW timezone"); got != "Pacific/Chatham" {
		t.Errorf("time zone %s", got)
	}
}

func TestDB_DroppedWithOpenConnections(t *testing.T) { //nolint:tparallel // what follows needs the end of the subtest
	t.Parallel()
	var name string
	var conn *pgx.Conn
	t.Run("user", func(t *testing.T) {
		url := DB(t)
		name = query(t, url, "SELECT current_database()")
		var err error
		if conn, err = pgx.Connect(t.Context(), url); err != nil {
			t.Fatal(err)
		}
	})
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the connection survived the database")
	}
	if got := query(t, shared.server.AdminURL(), "SELECT count(*)::text FROM pg_database WHERE datname = '"+name+"'"); got != "0" {
		t.Errorf("the database %s is still there", name)
	}
}

func TestDB_ManyAtOnce(t *testing.T) {
	t.Parallel()
	for range 16 {
		t.Run("user", func(t *testing.T) {
			t.Parallel()
			query(t, DB(t), "SELECT 'alive'")
		})
	}
}

func TestRestartServer(t *testing.T) {
	t.Parallel()
	s := RawServer(t)
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(setupTime):
		t.Fatal("nobody noticed the end of the server")
	}
	again := RestartServer(t, s)
	if again.URL() != s.URL() {
		t.Errorf("the URL changed")
	}
	query(t, again.URL(), "SELECT 'alive'")
	query(t, RestartServer(t, again).URL(), "SELECT 'alive'")
}

func TestRemoveStale(t *testing.T) {
	t.Parallel()
	folder := func(age time.Duration) (dir string, lock *os.File) {
		dir, err := serverDir()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
		lock, err = os.Create(filepath.Join(dir, "lock"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { lock.Close() })
		when := time.Now().Add(-age)
		if err := os.Chtimes(lock.Name(), when, when); err != nil {
			t.Fatal(err)
		}
		return dir, lock
	}
	stale, _ := folder(2 * time.Hour)
	fresh, _ := folder(0)
	live, lock := folder(2 * time.Hour)
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	removeStale()
	for dir, want := range map[string]bool{stale: false, fresh: true, live: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: kept %v, want %v", dir, err == nil, want)
		}
	}
}
