package pgserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// helperDir makes the test binary a program that runs a server on the folder
// and waits to be killed.
const helperDir = "LABLINK_TEST_PGSERVER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		os.Exit(helper(dir))
	}
	goleak.VerifyTestMain(m)
}

func helper(dir string) int {
	o := Options{Dir: dir, Settings: quick(), DieWithParent: os.Getenv(helperDir+"_DIE") != ""}
	s, err := Start(context.Background(), o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, s.PID())
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test lets go or kills us
	if err := s.Stop(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// startHelper runs helper and returns when its server is ready.
func startHelper(t *testing.T, dir string, env ...string) (*exec.Cmd, int) {
	t.Helper()
	cmd := exec.CommandContext(testContext(t), os.Args[0])
	cmd.Env = append(os.Environ(), append(env, helperDir+"="+dir)...)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the helper ended early: %v, %v", err, cmd.Wait())
	}
	if _, err := fmt.Sscan(line, &pid); err != nil {
		t.Fatal(err)
	}
	return cmd, pid
}

func kill9(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the helper survived kill -9")
	}
}

func quick() map[string]string { return map[string]string{"fsync": "off", "max_connections": "20"} }

func options(dir string) Options {
	return Options{Dir: dir, Settings: quick(), DieWithParent: true}
}

// testContext is a deadline that turns a hang into a failure.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// tempDir is a folder that other users may pass, unlike t.TempDir.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lablink-pgserver-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.Background()) }) // tests that care call it themselves
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

// refused starts a server that must not start, and checks what the error says.
func refused(t *testing.T, o Options, words ...string) {
	t.Helper()
	s, err := Start(testContext(t), o)
	if err == nil {
		stop(t, s)
		t.Fatal("the server started")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not mention %q: %v", w, err)
		}
	}
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	got, err := tryQuery(t, url, sql)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// tryQuery runs statements and returns the first value of the last one.
func tryQuery(t *testing.T, url, sql string) (string, error) {
	t.Helper()
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	if rows := results[len(results)-1].Rows; len(rows) > 0 {
		return string(rows[0][0]), nil
	}
	return "", nil
}

// eventually polls for something that announces itself in no other way.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx := testContext(t)
	for !is() {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func gone(pid int) bool {
	argv, err := commandLine(pid)
	return err == nil && len(strings.Join(argv, "")) == 0
}

func mustMkdir(t *testing.T, dir string, mode os.FileMode) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(dir, mode), os.Chmod(dir, mode)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mustWrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// tree lists all files below dir.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil {
			var fi os.FileInfo
			if fi, err = d.Info(); err == nil {
				names = append(names, fmt.Sprint(path, fi.Mode()))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, "\n")
}
