package provision_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"lablink/internal/provision"
)

func query(t *testing.T, databaseURL, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// A state is not pushed while somebody else changes it.
func TestOpen_ErroredStateLocks(t *testing.T) {
	t.Parallel()
	w, out := fake(t, map[string]string{"state_push.sh": `echo "arguments: $*"`})
	if err := w.PlaceModule(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(w.Dir, "errored.tfstate"), `{"version":4}`)
	open(t, w)
	if !strings.Contains(out.text(), "arguments: state push -lock=true -lock-timeout=0s errored.tfstate") {
		t.Errorf("logged:\n%s", out.text())
	}
}

// What happens to a state that could not be saved, with a database that is full
// for a while.
func TestOpen_ErroredState(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, binary, databaseURL string) {
		w, out, _, _ := labWorkspace(t, binary, databaseURL)
		path := filepath.Join(w.Dir, "errored.tfstate")
		open(t, w)
		apply(t, w, plan(t, w, 1))
		first := plan(t, w, 1, 2)
		query(t, databaseURL, `
			CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no space left'; END $$;
			CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON terraform_test.states FOR EACH ROW EXECUTE FUNCTION full_disk()`)
		e := &events{}
		_, err := w.Apply(t.Context(), first, e.add)
		failure, ok := errors.AsType[*provision.ApplyError](err)
		if !ok || !strings.Contains(failure.General, "no space left") || e.String() != "vm-2: begun created" || !exists(path) {
			t.Fatalf("events %s, error %v", e, err)
		}

		// Still full: nothing is planned without it.
		if err := w.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "no space left") || !strings.Contains(err.Error(), path) || !exists(path) {
			t.Fatalf("error: %v", err)
		}
		errored, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}

		query(t, databaseURL, `DROP TRIGGER full_disk ON terraform_test.states`)
		open(t, w)
		if exists(path) || !strings.Contains(out.text(), "could not save is saved now") {
			t.Errorf("the state is still there:\n%s", out.text())
		}
		if p := plan(t, w, 1, 2); !p.Empty() || !p.Exists("vm-2") {
			t.Errorf("plan with the saved state: %+v", p)
		}

		// A newer one was saved meanwhile; a damaged one; that of something else.
		apply(t, w, plan(t, w, 1, 2, 3))
		other := strings.Replace(string(errored), `"lineage": "`, `"lineage": "0`, 1)
		for n, text := range []string{string(errored), string(errored[:100]), "", other} {
			write(t, path, text)
			open(t, w)
			aside, err := filepath.Glob(w.Dir + ".errored.tfstate-*")
			if err != nil || len(aside) != n+1 || exists(path) {
				t.Fatalf("set aside: %v, %v", aside, err)
			}
			kept, err := os.ReadFile(aside[n])
			if info, statErr := os.Stat(aside[n]); err != nil || statErr != nil || string(kept) != text || info.Mode().Perm() != 0o600 {
				t.Errorf("%s is not what it was: %v", aside[n], err)
			}
			if !strings.Contains(out.text(), "An earlier state could not be saved, and is now "+aside[n]) {
				t.Errorf("nobody is told:\n%s", out.text())
			}
		}
		if p := plan(t, w, 1, 2, 3); !p.Empty() {
			t.Errorf("plan after that: %+v", p)
		}
	})
}
