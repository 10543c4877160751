package cli_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"lablink/internal/testkit"
)

// binDir holds the program that the tests run.
var binDir string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "lablink-cli-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	args := append([]string{"build", "-o", dir, "-ldflags", "-X lablink/internal/cli.Version=test-version"}, buildFlags...)
	build := exec.CommandContext(context.Background(), "go", append(args, "lablink/cmd/lablink")...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "go build:", err)
		return 1
	}
	binDir = dir
	return testkit.Run(m)
}

func binary() string { return filepath.Join(binDir, "lablink") }

// dataDir is a folder of the test's own that PostgreSQL's user can reach.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lablink-cli-") //nolint:usetesting // that of testing is closed to others
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

// The scripts know $DATABASE, an external PostgreSQL database of their own, and
// $DATA, a folder for a private one. "status N PROGRAM ..." wants an exit code.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			t, ok := env.T().(testing.TB)
			if !ok {
				return errors.New("testscript's T is no testing.TB")
			}
			data, err := os.MkdirTemp("", "lablink-cli-") //nolint:usetesting // that of testing is closed to others
			if err != nil {
				return err
			}
			env.Defer(func() {
				if err := os.RemoveAll(data); err != nil {
					t.Error(err)
				}
			})
			env.Setenv("DATA", data)
			env.Setenv("DATABASE", testkit.DB(t))
			env.Setenv("PATH", binDir+string(os.PathListSeparator)+env.Getenv("PATH"))
			return os.Chmod(data, 0o711)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				got := 0
				var exit *exec.ExitError
				if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
					got = exit.ExitCode()
				} else if err != nil {
					ts.Fatalf("%v", err)
				}
				if got != want {
					ts.Fatalf("exit code %d, want %d", got, want)
				}
			},
		},
	})
}
