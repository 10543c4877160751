package pgserver

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStart_FirstAndSecondTime(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "new", "postgres")
	s := start(t, options(dir))
	for sql, want := range map[string]string{
		"SELECT current_database()":                                  "lablink",
		"SELECT rolsuper FROM pg_roles WHERE rolname = current_user": "f",
		"SHOW listen_addresses":                                      "",
		"SHOW data_checksums":                                        "on",
		"SHOW server_encoding":                                       "UTF8",
		"SHOW timezone":                                              "UTC",
		"SHOW fsync":                                                 "off", // of Settings
		"SHOW max_connections":                                       "20",
		"SHOW synchronous_commit":                                    "on",
		"CREATE TABLE kept (v text); INSERT INTO kept VALUES ('yes') RETURNING v": "yes",
	} {
		if got := query(t, s.URL(), sql); got != want {
			t.Errorf("%s: got %q, want %q", sql, got, want)
		}
	}
	if got := query(t, s.AdminURL(), "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"); got != "t" {
		t.Errorf("AdminURL is not the superuser's")
	}
	if pgid, err := syscall.Getpgid(s.PID()); err != nil || pgid != s.PID() {
		t.Errorf("process group %d (%v), want one of its own", pgid, err)
	}
	for path, want := range map[string]fs.FileMode{"password": 0o600, "socket": fs.ModeDir | 0o700, "data": fs.ModeDir | 0o700, "postgres.log": 0o600} {
		fi, err := os.Stat(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode() != want {
			t.Errorf("mode of %s: got %v, want %v", path, fi.Mode(), want)
		}
	}
	if got, err := Attach(dir); err != nil || got != s.URL() {
		t.Errorf("Attach: got %q, %v", got, err)
	}

	pid, url := s.PID(), s.URL()
	stop(t, s)
	stop(t, s)
	if !gone(pid) {
		t.Error("the server survived Stop")
	}
	if s.Err() != nil {
		t.Errorf("Err after Stop: %v", s.Err())
	}
	select {
	case <-s.Done():
		t.Error("Done is closed although Stop was asked for")
	default:
	}
	if _, err := Attach(dir); err == nil {
		t.Error("Attach found a server that is not running")
	}

	s = start(t, options(dir))
	if got := query(t, s.URL(), "SELECT v FROM kept"); got != "yes" {
		t.Errorf("second start: got %q", got)
	}
	if s.URL() != url {
		t.Error("the URL changed")
	}
	stop(t, s)
}

// Nobody gets in by knowing the socket alone.
func TestStart_WrongPassword(t *testing.T) {
	t.Parallel()
	s := start(t, options(tempDir(t)))
	if _, err := tryQuery(t, lablinkURL(s.socket.path, "guessed"), "SELECT 1"); err == nil {
		t.Error("a wrong password was accepted")
	}
	stop(t, s)

	// A lost password file is replaced.
	if err := os.Remove(s.lay.passwordFile()); err != nil {
		t.Fatal(err)
	}
	again := start(t, options(s.Dir()))
	if again.URL() == s.URL() {
		t.Error("the password is still the same")
	}
	query(t, again.URL(), "SELECT 1")
	stop(t, again)
}

func TestStart_TakesOverAfterKill(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	// Such variables decide for other PostgreSQL programs; here they must not.
	helper, pid := startHelper(t, dir, "PGPORT=1", "PGDATA=/nonexistent", "PGHOST=/nonexistent", "LC_ALL=xx_YY", "TZ=Asia/Tokyo")
	url, err := Attach(dir)
	if err != nil {
		t.Fatal(err)
	}
	query(t, url, "CREATE TABLE kept (v text); INSERT INTO kept VALUES ('yes')")
	refused(t, options(dir), ErrInUse.Error(), "pid "+strconv.Itoa(helper.Process.Pid))
	kill9(t, helper)

	s := start(t, options(dir))
	if s.PID() != pid {
		t.Errorf("a new server was started: pid %d, want %d", s.PID(), pid)
	}
	if s.URL() != url {
		t.Error("the URL changed")
	}
	if got := query(t, s.URL(), "SELECT v FROM kept"); got != "yes" {
		t.Errorf("got %q", got)
	}
	stop(t, s)
	stop(t, s)
	if !gone(pid) {
		t.Error("Stop left the server running that was taken over")
	}
}

func TestStart_AdoptedServerDies(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	helper, pid := startHelper(t, dir)
	kill9(t, helper)
	s := start(t, options(dir))
	if s.PID() != pid {
		t.Fatalf("pid %d, want %d", s.PID(), pid)
	}
	killServer(t, s)
	again := start(t, options(dir))
	query(t, again.URL(), "SELECT 1")
	stop(t, again)
}

func TestServer_DoneWhenKilled(t *testing.T) {
	t.Parallel()
	s := start(t, options(tempDir(t)))
	killServer(t, s)
	if err := s.Err(); !strings.Contains(err.Error(), "killed") {
		t.Errorf("Err: %v", err)
	}
	// Children of the dead server may still hold its memory.
	again := start(t, options(s.Dir()))
	query(t, again.URL(), "SELECT 1")
	stop(t, again)
}

// killServer kills the postmaster and checks that this is noticed.
func killServer(t *testing.T, s *Server) {
	t.Helper()
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-testContext(t).Done():
		t.Fatal("nobody noticed")
	}
	err := s.Err()
	if err == nil || !strings.Contains(err.Error(), strconv.Itoa(s.PID())) || !strings.Contains(err.Error(), "ready to accept connections") {
		t.Errorf("Err does not hold the pid and the end of the log: %v", err)
	}
	stop(t, s)
}

func TestStart_SecondProgramRefused(t *testing.T) {
	t.Parallel()
	s := start(t, options(tempDir(t)))
	_, err := Start(testContext(t), options(s.Dir()))
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "pid "+strconv.Itoa(os.Getpid())) {
		t.Errorf("got %v", err)
	}
	query(t, s.URL(), "SELECT 1") // the refusal did no harm
	stop(t, s)
}

// Only ever one of several programs that start at once may win.
func TestStart_AllAtOnce(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	type result struct {
		s   *Server
		err error
	}
	results := make(chan result)
	const n = 4
	ctx := testContext(t)
	for range n {
		go func() {
			s, err := Start(ctx, options(dir))
			results <- result{s, err}
		}()
	}
	var won []*Server
	for range n {
		r := <-results
		if r.err == nil {
			won = append(won, r.s)
		} else if !errors.Is(r.err, ErrInUse) {
			t.Error(r.err)
		}
	}
	for _, s := range won {
		stop(t, s)
	}
	if len(won) != 1 {
		t.Errorf("%d programs got the folder", len(won))
	}
}

func TestStart_Cancelled(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	for name, reached := range map[string]func() bool{
		"during initdb": func() bool {
			found, _ := filepath.Glob(filepath.Join(dir, stagingPrefix+"*", "data", "base"))
			return len(found) > 0
		},
		"while the server starts": func() bool {
			_, err := os.Stat(pidFile(filepath.Join(dir, "data")))
			return err == nil
		},
	} {
		ctx, cancel := context.WithCancel(testContext(t))
		failed := make(chan error, 1)
		go func() {
			_, err := Start(ctx, options(dir))
			failed <- err
		}()
		eventually(t, name, func() bool { return reached() || len(failed) > 0 })
		pm, _ := readPIDFile(pidFile(filepath.Join(dir, "data")))
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want context.Canceled", name, err)
		}
		if pm.pid != 0 && !gone(pm.pid) {
			t.Errorf("%s: the server was left running", name)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, stagingPrefix+"*")); len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
	s := start(t, options(dir))
	query(t, s.URL(), "SELECT 1")
	stop(t, s)
}

// A shutdown that may not take its time loses nothing that was committed.
func TestServer_StopAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, options(tempDir(t)))
	query(t, s.URL(), "CREATE TABLE kept (v text); INSERT INTO kept VALUES ('yes')")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if !gone(s.PID()) {
		t.Error("the server is still there")
	}
	again := start(t, options(s.Dir()))
	if got := query(t, again.URL(), "SELECT v FROM kept"); got != "yes" {
		t.Errorf("got %q", got)
	}
	stop(t, again)
}

// A long path, with characters that mean something elsewhere, still gets a
// socket, and a URL that libpq understands too.
func TestStart_LongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), strings.Repeat("long ", 20), "a,b'c\"d=100%", strings.Repeat("x", 100)) //nolint:gocritic // a trap on purpose
	s := start(t, options(dir))
	query(t, s.URL(), "CREATE TABLE kept (v text); INSERT INTO kept VALUES ('yes')")
	bin, err := findBinaries(testContext(t), "", "")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(testContext(t), filepath.Join(bin.dir, "psql"), "-XAtc", "SELECT v FROM kept", s.URL()).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "yes" {
		t.Errorf("psql: %v: %s", err, out)
	}
	fi, err := os.Stat(s.socket.path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o700 {
		t.Errorf("mode of the socket folder: %v", fi.Mode())
	}
	stop(t, s)
	if _, err := os.Stat(s.socket.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket folder is left: %v", err)
	}
	again := start(t, options(dir))
	if diff := cmp.Diff(s.URL(), again.URL()); diff != "" {
		t.Errorf("the URL changed: %s", diff)
	}
	stop(t, again)
}

// PINs and codes stand in rows, and PostgreSQL likes to quote rows in errors.
func TestServer_LogHoldsNoRows(t *testing.T) {
	t.Parallel()
	s := start(t, options(tempDir(t)))
	query(t, s.URL(), "CREATE TABLE seats (pin text UNIQUE CHECK (pin <> '471147')); INSERT INTO seats VALUES ('815815')")
	for _, sql := range []string{"INSERT INTO seats VALUES ('471147')", "INSERT INTO seats VALUES ('815815')"} {
		if _, err := tryQuery(t, s.URL(), sql); err == nil {
			t.Fatalf("%s succeeded", sql)
		}
	}
	log := mustRead(t, s.lay.log())
	if !strings.Contains(log, "violates check constraint") || strings.Contains(log, "471147") || strings.Contains(log, "815815") || strings.Contains(log, s.pass) {
		t.Errorf("log:\n%s", log)
	}
	stop(t, s)
}
