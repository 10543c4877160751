package store_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
	"lablink/internal/testkit"
)

const local = "local"

func launchOf(n int) store.Launch {
	return store.Launch{Provider: local, Prefix: "lab-", InstanceType: "small", Count: n, Most: 1000}
}

func launch(t *testing.T, s *store.Store, n int) fleet.Operation {
	t.Helper()
	op, err := s.Launch(t.Context(), admin, launchOf(n))
	must(t, err)
	return op
}

func names(op fleet.Operation) []string {
	list := make([]string, len(op.Steps))
	for i, step := range op.Steps {
		list[i] = step.Hostname
	}
	return list
}

func ids(op fleet.Operation) []int64 {
	list := make([]int64, len(op.Steps))
	for i, step := range op.Steps {
		list[i] = step.VM
	}
	return list
}

// forget deletes what the database knows of a VM, as no method does.
func forget(t *testing.T, s *store.Store, hostname string) {
	t.Helper()
	of := ` WHERE vm IN (SELECT id FROM vms WHERE hostname = '` + hostname + `')`
	must(t, store.Exec(t.Context(), s, `ALTER TABLE vm_events DISABLE TRIGGER USER; DELETE FROM vm_events`+of+
		`; ALTER TABLE vm_events ENABLE TRIGGER USER; DELETE FROM operation_vms`+of+`; DELETE FROM vms WHERE hostname = '`+hostname+`'`))
}

func registerAs(t *testing.T, s *store.Store, hostname string) {
	t.Helper()
	must(t, s.RegisterVMs(t.Context(), admin, []string{hostname}, [][]byte{fleet.HashToken("token of " + hostname)}, 100))
}

// history fails unless the history of a VM is exactly this, the oldest first.
func history(t *testing.T, s *store.Store, id int64, want ...string) {
	t.Helper()
	events, err := s.Events(t.Context(), id, 100)
	must(t, err)
	got := make([]string, 0, len(events))
	for _, e := range slices.Backward(events) {
		got = append(got, e.What+"/"+e.Detail+"/"+e.Actor.Kind)
	}
	if !slices.Equal(got, want) {
		t.Errorf("history\n%q, want\n%q", got, want)
	}
}

func destroy(t *testing.T, s *store.Store, hostnames ...string) (fleet.Operation, error) {
	t.Helper()
	return s.Destroy(t.Context(), admin, store.Destroy{Provider: local, Hostnames: hostnames})
}

func destroyed(t *testing.T, s *store.Store, hostnames ...string) fleet.Operation {
	t.Helper()
	op, err := destroy(t, s, hostnames...)
	must(t, err)
	return op
}

// run carries out all operations that are open, up to op.
func run(t *testing.T, s *store.Store, op fleet.Operation) {
	t.Helper()
	w := workspace(t, s)
	defer w.Close()
	runIn(t, w, op)
}

// runIn is run for who has the workspace already.
func runIn(t *testing.T, w *store.Workspace, op fleet.Operation) {
	t.Helper()
	for id := int64(0); id != op.ID; {
		c := claim(t, w)
		id = c.ID
		if c.Kind == fleet.KindLaunch {
			must(t, c.Created(t.Context(), ids(c.Operation), times(len(c.Steps), time.Now())))
		} else {
			must(t, c.Destroyed(t.Context(), ids(c.Operation), times(len(c.Steps), time.Now())))
		}
		must(t, c.Finish(t.Context(), fleet.OperationSucceeded, ""))
	}
}

func times(n int, at time.Time) []time.Time { return slices.Repeat([]time.Time{at}, n) }

// ready launches n VMs that are made and running.
func ready(t *testing.T, s *store.Store, n int) []string {
	t.Helper()
	op := launch(t, s, n)
	run(t, s, op)
	for _, name := range names(op) {
		must(t, s.SetStatus(t.Context(), fleet.Actor{Kind: "vm"}, name, fleet.StatusRunning))
	}
	return names(op)
}

func live(t *testing.T, s *store.Store) []string {
	t.Helper()
	statuses, err := s.Statuses(t.Context())
	must(t, err)
	return slices.Sorted(maps.Keys(statuses))
}

// tables are all that operations change.
var tables = []string{"vms", "vm_tokens", "vm_events", "operations", "operation_vms", "operation_output", "hostname_numbers", "strays"}

func dump(t *testing.T, s *store.Store) map[string]string {
	t.Helper()
	rows, err := store.Dump(t.Context(), s, tables...)
	must(t, err)
	return rows
}

func changes(before, after map[string]string) string {
	var b strings.Builder
	for table := range before {
		if before[table] != after[table] {
			fmt.Fprintf(&b, "%s was\n%s\nis\n%s\n", table, before[table], after[table])
		}
	}
	return b.String()
}

func newest(t *testing.T, s *store.Store) fleet.Operation {
	t.Helper()
	ops, err := s.Operations(t.Context(), 1)
	must(t, err)
	return ops[0]
}

// workspace takes the right to run operations until the test ends.
func workspace(t *testing.T, s *store.Store) *store.Workspace {
	t.Helper()
	w, err := s.LockWorkspace(t.Context(), local)
	must(t, err)
	if w == nil {
		t.Fatal("somebody has the workspace")
	}
	t.Cleanup(w.Close)
	return w
}

// claim takes the next operation, which must be there.
func claim(t *testing.T, w *store.Workspace) *store.Claim {
	t.Helper()
	c, err := w.Claim(t.Context())
	must(t, err)
	if c == nil {
		t.Fatal("there is no operation")
	}
	return c
}

// two opens one database twice, as two replicas do.
func two(t *testing.T) (a, b *store.Store, url string) {
	t.Helper()
	url = testkit.DB(t)
	stores := make([]*store.Store, 2)
	for i := range stores {
		s, err := store.Open(t.Context(), url)
		must(t, err)
		t.Cleanup(s.Close)
		stores[i] = s
	}
	return stores[0], stores[1], url
}
