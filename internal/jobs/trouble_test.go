package jobs_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"lablink/internal/config"
	"lablink/internal/testkit"
)

const start, stop = testkit.StartAgent, testkit.StopAgent

func withModule(dir string) func(*config.Config) {
	return func(c *config.Config) { c.Provision.Module = dir }
}

func (s *site) retry(id int64) testkit.Operation {
	s.t.Helper()
	r := s.Do(s.t.Context(), testkit.Request{Path: fmt.Sprintf("/api/operations/%d/retry", id), Admin: true, JSON: map[string]any{}})
	if r.Status != http.StatusAccepted {
		s.t.Fatalf("retry: %d %s", r.Status, r.Body)
	}
	var op testkit.Operation
	r.JSON(s.t, &op)
	return op
}

func (s *site) stop(id int64) {
	s.t.Helper()
	r := s.Do(s.t.Context(), testkit.Request{Path: fmt.Sprintf("/api/operations/%d/stop", id), Admin: true, JSON: map[string]any{}})
	if r.Status != http.StatusAccepted {
		s.t.Fatalf("stop: %d %s", r.Status, r.Body)
	}
}

// One VM of ten cannot be made, and starts its agent before it says so: the nine
// are used, the tenth is shown with the reason, never given to anybody, and can
// be tried again.
func TestRunner_OneOfTenFails(t *testing.T) {
	t.Parallel()
	orders := t.TempDir()
	s := serve(t, withModule(testkit.LocalModule(t, orders,
		start+`; if [ $VM_HOSTNAME = lablink-client-7 ] && [ ! -e $ORDERS/mend ]; then echo InsufficientInstanceCapacity: none left for $VM_TOKEN >&2; exit 3; fi`, stop)))
	op := s.Ended(s.Launch(10).ID)
	if op.State != "succeeded" || len(op.Hostnames("done")) != 9 || !slices.Equal(op.Hostnames("failed"), []string{"lablink-client-7"}) {
		t.Fatalf("operation: %+v\n%s", op, s.output(op.ID))
	}
	if reason := op.VMs[6].Message; !strings.Contains(reason, "InsufficientInstanceCapacity: none left for [secret]") {
		t.Errorf("reason = %q", reason)
	}
	if vm, err := s.Store.VM(t.Context(), "lablink-client-7"); err != nil || vm.Status != "error" || vm.Free() {
		t.Errorf("the failed VM is %+v, %v", vm, err)
	}
	if agents := s.agents(); len(agents) != 9 || slices.Contains(agents, "lablink-client-7") {
		t.Errorf("agents: %v", agents)
	}
	if text := s.output(op.ID); strings.Count(text, "creation") == 0 && !strings.Contains(text, "Creation complete") {
		t.Errorf("the output does not tell what happened:\n%s", text)
	}
	// Another launch leaves the failed one alone.
	s.succeeded(s.Launch(1))
	if s.fleet()["lablink-client-7"] != "error" {
		t.Errorf("the fleet is %v", s.fleet())
	}
	again := s.Ended(s.retry(op.ID).ID)
	if again.State != "failed" || !slices.Equal(again.Hostnames("failed"), []string{"lablink-client-7"}) {
		t.Errorf("second try: %+v", again)
	}
	testkit.Order(t, orders, "mend")
	s.succeeded(s.retry(again.ID))
	s.holds(numbers(1, 11)...)
	if r := s.Do(t.Context(), testkit.Request{Path: fmt.Sprintf("/api/operations/%d/retry", op.ID), Admin: true, JSON: map[string]any{}}); r.Status != http.StatusConflict {
		t.Errorf("a third try of what is there: %d %s", r.Status, r.Body)
	}
	s.succeeded(s.DestroyAll(11))
}

// A machine that cannot be destroyed is never forgotten.
func TestRunner_DestroyFails(t *testing.T) {
	t.Parallel()
	orders := t.TempDir()
	s := serve(t, withModule(testkit.LocalModule(t, orders, start,
		`if [ $VM_HOSTNAME = lablink-client-2 ] && [ ! -e $ORDERS/mend ]; then echo UnauthorizedOperation >&2; exit 1; fi; `+stop)))
	s.succeeded(s.Launch(3))
	op := s.Ended(s.DestroyAll(3).ID)
	if op.State != "failed" || op.Error != "1 of 3 machines could not be destroyed" || !strings.Contains(op.VMs[1].Message, "UnauthorizedOperation") {
		t.Errorf("operation: %+v", op)
	}
	if len(s.fleet()) > 0 {
		t.Errorf("the pool still has %v", s.fleet())
	}
	if strays, err := s.Store.Strays(t.Context(), "local"); err != nil || !slices.Equal(strays, []string{"lablink-client-2"}) {
		t.Errorf("strays: %v, %v", strays, err)
	}
	// It is nobody's VM now, and a launch leaves it as it is.
	s.succeeded(s.Launch(2))
	s.succeeded(s.Destroy("lablink-client-4"))
	if agents := s.agents(); !slices.Equal(agents, []string{"lablink-client-2", "lablink-client-5"}) {
		t.Errorf("agents: %v", agents)
	}
	testkit.Order(t, orders, "mend")
	s.succeeded(s.retry(op.ID))
	s.holds(5)
	if strays, err := s.Store.Strays(t.Context(), "local"); err != nil || len(strays) > 0 {
		t.Errorf("strays: %v, %v", strays, err)
	}
}

// A module that has changed so that it would replace VMs is refused, by name,
// also one that holds a participant.
func TestRunner_UnaskedReplacementIsRefused(t *testing.T) {
	t.Parallel()
	dir := testkit.LocalModule(t, t.TempDir(), start, stop)
	s := serve(t, withModule(dir))
	s.succeeded(s.Launch(2))
	main := filepath.Join(dir, "main.tf")
	before, err := os.ReadFile(main)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(before), "  input = {", "  triggers_replace = \"a new version\"\n  input = {", 1)
	if err := os.WriteFile(main, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, op := range []testkit.Operation{s.Launch(1), s.Destroy("lablink-client-1")} {
		op = s.Ended(op.ID)
		if op.State != "failed" || !strings.Contains(op.Error, "the plan was refused, and nothing was changed") || !strings.Contains(op.Error, "lablink-client-2") {
			t.Errorf("%s: %+v", op.Kind, op)
		}
	}
	if agents := s.agents(); len(agents) != 2 {
		t.Errorf("agents: %v", agents)
	}
	if err := os.WriteFile(main, before, 0o600); err != nil {
		t.Fatal(err)
	}
	s.succeeded(s.retry(2))
	s.succeeded(s.retry(3))
	s.holds(2, 3)
}

// What the database forgets, or invents, never changes the size of the fleet.
func TestRunner_RowsLostAndStray(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.succeeded(s.Launch(3))
	s.exec(`ALTER TABLE vm_events DISABLE TRIGGER USER`)
	s.exec(`DELETE FROM vm_events; DELETE FROM vm_tokens; DELETE FROM operation_vms; DELETE FROM polls`)
	s.exec(`DELETE FROM vms WHERE hostname = 'lablink-client-3'`)
	s.exec(`INSERT INTO vms (hostname, provider, status) VALUES ('lablink-client-77', 'local', 'running')`)
	op := s.succeeded(s.Launch(2))
	if names := op.Hostnames("done"); !slices.Equal(names, []string{"lablink-client-78", "lablink-client-79"}) {
		t.Errorf("made %v", names)
	}
	want := []string{"lablink-client-1", "lablink-client-2", "lablink-client-3", "lablink-client-78", "lablink-client-79"}
	if agents := s.agents(); !slices.Equal(agents, want) {
		t.Errorf("agents: %v, want %v", agents, want)
	}
	if strays, err := s.Store.Strays(t.Context(), "local"); err != nil || !slices.Equal(strays, []string{"lablink-client-3"}) {
		t.Errorf("strays: %v, %v", strays, err)
	}
	s.succeeded(s.Destroy("lablink-client-1", "lablink-client-77"))
	if agents := s.agents(); !slices.Equal(agents, want[1:]) {
		t.Errorf("agents: %v, want %v", agents, want[1:])
	}
}

// A database that was lost while the state was not: the new one does not take
// the old one's machines for its own.
func TestRunner_DatabaseLostStateKept(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.succeeded(s.Launch(3))
	s.exec(`ALTER TABLE vm_events DISABLE TRIGGER USER`)
	s.exec(`TRUNCATE operations, operation_vms, operation_output, vm_events, vm_tokens, hostname_numbers, vms, polls RESTART IDENTITY`)
	op := s.Ended(s.Launch(2).ID)
	if op.State != "failed" || !strings.Contains(op.Error, "lablink-client-1, lablink-client-2") || !strings.Contains(op.Error, "up to 3") {
		t.Errorf("operation: %+v\n%s", op, s.output(op.ID))
	}
	if len(s.fleet()) > 0 {
		t.Errorf("the fleet is %v", s.fleet())
	}
	op = s.succeeded(s.Launch(1))
	if names := op.Hostnames("done"); !slices.Equal(names, []string{"lablink-client-4"}) {
		t.Errorf("made %v", names)
	}
	if agents := s.agents(); len(agents) != 4 {
		t.Errorf("agents: %v", agents)
	}
}

func (s *site) exec(sql string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.DatabaseURL)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(s.t.Context()) }()
	if _, err := conn.Exec(s.t.Context(), sql); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}
