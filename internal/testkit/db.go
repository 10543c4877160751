// Package testkit holds what the tests of several packages share. Only tests may
// import it.
package testkit

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"lablink/internal/pgserver"
	"lablink/internal/store"
)

// shared is the PostgreSQL server of this test process.
var shared struct {
	once     sync.Once
	server   *pgserver.Server
	err      error
	template string
	count    atomic.Int64
}

// settings make tests fast, and wrong assumptions about time visible: the zone is
// 12:45 or 13:45 hours ahead of UTC. A test's data need not survive a power cut.
func settings() map[string]string {
	return map[string]string{
		"fsync":              "off",
		"full_page_writes":   "off",
		"synchronous_commit": "off",
		"max_connections":    "300",
		"max_wal_size":       "128MB", // the folder may be in memory
		"timezone":           "Pacific/Chatham",
	}
}

// setupTime bounds the start and the stop of a server, also on a busy machine.
const setupTime = 2 * time.Minute

// Main runs the tests of a package, stops the server that DB started, and fails
// if goroutines are left. It does not return:
//
//	func TestMain(m *testing.M) { testkit.Main(m) }
func Main(m *testing.M) {
	os.Exit(Run(m)) //nolint:revive // this is the end of TestMain
}

// Run is Main for packages that clean up after it. It returns the exit code.
func Run(m *testing.M) int {
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, "testkit:", err)
		code = max(code, 1)
	}
	if err := os.RemoveAll(programDir); err != nil {
		fmt.Fprintln(os.Stderr, "testkit:", err)
		code = max(code, 1)
	}
	// After a failure, leaks are only its consequence.
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "testkit: goroutines are left after the tests:", err)
			code = 1
		}
	}
	return code
}

// DB returns the URL of a migrated, empty database of the test's own, which is
// dropped when the test ends. The server is started at the first call; without
// PostgreSQL the test fails. Packages that call it need Main.
//
// Sessions are in an awkward time zone, unless the program asks for another one.
func DB(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() { shared.err = startShared() })
	if shared.err != nil {
		t.Fatalf("testkit.DB: %v", shared.err)
	}
	name := fmt.Sprintf("test_%d", shared.count.Add(1))
	if err := admin("CREATE DATABASE " + name + " TEMPLATE " + shared.template + " OWNER lablink"); err != nil {
		t.Fatalf("testkit.DB: %v", err)
	}
	t.Cleanup(func() {
		if err := admin("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)"); err != nil {
			t.Errorf("testkit.DB: %v", err)
		}
	})
	return databaseURL(shared.server, name)
}

// RawServer returns a server of the test's own, for tests that stop or kill it.
// Its database, at URL, is not migrated. RestartServer starts it again.
func RawServer(t testing.TB) *pgserver.Server {
	t.Helper()
	dir, err := serverDir()
	if err != nil {
		t.Fatalf("testkit.RawServer: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("testkit.RawServer: %v", err)
		}
	})
	return startRaw(t, dir)
}

// RestartServer stops a server, unless it has ended already, and starts it again
// with the same data and URL.
func RestartServer(t testing.TB, s *pgserver.Server) *pgserver.Server {
	t.Helper()
	stopRaw(t, s)
	return startRaw(t, s.Dir())
}

func startRaw(t testing.TB, dir string) *pgserver.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupTime)
	defer cancel()
	s, err := pgserver.Start(ctx, options(dir))
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	t.Cleanup(func() { stopRaw(t, s) })
	return s
}

func stopRaw(t testing.TB, s *pgserver.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupTime)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("testkit: %v", err)
	}
}

func options(dir string) pgserver.Options {
	return pgserver.Options{Dir: dir, Settings: settings(), DieWithParent: true}
}

// startShared starts the server and makes the template: migrated once, and closed
// for connections, so that it can be cloned at any time.
func startShared() error {
	removeStale()
	dir, err := serverDir()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupTime)
	defer cancel()
	shared.server, err = pgserver.Start(ctx, options(dir))
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	const template = "migrated"
	if err := admin("CREATE DATABASE " + template + " OWNER lablink"); err != nil {
		return err
	}
	if err := store.Migrate(ctx, databaseURL(shared.server, template)); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	shared.template = template
	return admin("ALTER DATABASE " + template + " ALLOW_CONNECTIONS false")
}

func stopShared() error {
	if shared.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupTime)
	defer cancel()
	return errors.Join(shared.server.Stop(ctx), os.RemoveAll(shared.server.Dir()))
}

// admin runs one statement as the superuser. Not in the test's context, which has
// ended when databases are dropped.
func admin(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), setupTime)
	defer cancel()
	conn, err := pgx.Connect(ctx, shared.server.AdminURL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

func databaseURL(s *pgserver.Server, name string) string {
	u, err := url.Parse(s.URL())
	if err != nil {
		panic(err) // pgserver made it
	}
	u.Path = "/" + name
	return u.String()
}

const dirPrefix = "lablink-testkit-"

// serverDir makes a folder that the server's user may pass, which it may not with
// that of testing.T.TempDir when the tests run as root.
func serverDir() (string, error) {
	dir, err := os.MkdirTemp(tempDir(), dirPrefix)
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

// tempDir is in memory where that has room: to clone a database is to make 300
// files, which takes ten times as long on some disks. TMPDIR overrides it.
func tempDir() string {
	const memory, enough = "/dev/shm", 2 << 30
	var st syscall.Statfs_t
	if os.Getenv("TMPDIR") != "" || syscall.Statfs(memory, &st) != nil || st.Bavail*uint64(st.Bsize) < enough {
		return os.TempDir()
	}
	return memory
}

// removeStale deletes what test processes left that were killed. A live one holds
// the lock of its folder, but makes the file a moment before it takes the lock.
func removeStale() {
	locks, _ := filepath.Glob(filepath.Join(tempDir(), dirPrefix+"*", "lock"))
	for _, path := range locks {
		fi, err := os.Stat(path)
		if err != nil || time.Since(fi.ModTime()) < time.Minute {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			continue // somebody else's
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			// What cannot be removed now is tried again the next time.
			_ = os.RemoveAll(filepath.Dir(path))
		}
		f.Close()
	}
}
