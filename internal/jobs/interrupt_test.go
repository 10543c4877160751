package jobs_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lablink/internal/config"
	"lablink/internal/server"
	"lablink/internal/testkit"
)

// held is a create command that waits, for one VM or for all, until it is let go.
func held(hostname string) string {
	return `case $VM_HOSTNAME in ` + hostname + `) touch $ORDERS/at-$VM_HOSTNAME; until [ -e $ORDERS/go ]; do sleep 0.02; done;; esac; ` + start
}

// stuck is one that never ends, and does not care for signals.
const stuck = `trap '' INT TERM; touch $ORDERS/at-$VM_HOSTNAME; while :; do sleep 1; done`

// reaches waits until the commands have come to a VM.
func (s *site) reaches(orders, hostname string) {
	s.t.Helper()
	testkit.Eventually(s.t, "Terraform to come to "+hostname, func() bool { return testkit.Ordered(orders, "at-"+hostname) })
}

// leftovers are processes whose arguments or environment name a folder, beside
// agents.
func leftovers(t *testing.T, folder string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", `for p in /proc/[0-9]*; do
		tr '\0' ' ' <$p/environ 2>/dev/null | grep -q -F "LABLINK_WORKSPACE=`+folder+`" && echo "$p $(tr '\0' ' ' <$p/cmdline)"; done; true`).Output()
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// A launch is stopped while its VMs are being made: those that are there stay,
// the others are gone, and nothing of them is left.
func TestRunner_StopALaunch(t *testing.T) {
	t.Parallel()
	orders := t.TempDir()
	s := serve(t, withModule(testkit.LocalModule(t, orders, held("lablink-client-3"), stop)))
	op := s.Launch(3)
	s.reaches(orders, "lablink-client-3")
	testkit.Eventually(t, "two VMs", func() bool { return len(s.Operation(op.ID).Hostnames("done")) == 2 })
	s.stop(op.ID)
	op = s.Ended(op.ID)
	if op.State != "cancelled" || !slices.Equal(op.Hostnames("cancelled"), []string{"lablink-client-3"}) {
		t.Errorf("operation: %+v\n%s", op, s.output(op.ID))
	}
	s.holds(1, 2)
	if left := leftovers(t, filepath.Join(s.dataDir, "terraform")); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if r := s.Do(t.Context(), testkit.Request{Path: fmt.Sprintf("/api/operations/%d/stop", op.ID), Admin: true, JSON: map[string]any{}}); r.Status != http.StatusConflict {
		t.Errorf("stopping it again: %d %s", r.Status, r.Body)
	}
	testkit.Order(t, orders, "go")
	s.succeeded(s.Launch(1))
	s.holds(1, 2, 4)
}

func shortGrace(s *server.Server) { s.TerraformGrace = 300 * time.Millisecond }

// Nobody waits for ever for a module that hangs and ignores the interrupt, and
// nothing of it is left.
func TestRunner_ModuleHangs(t *testing.T) {
	t.Parallel()
	orders := t.TempDir()
	dir := testkit.LocalModule(t, orders, `if [ -e $ORDERS/mend ] || [ $VM_HOSTNAME = lablink-client-1 ]; then `+start+`; exit; fi; `+stuck, stop)
	s := &site{t: t}
	o := testkit.LocalProvider(t, testkit.ServeOptions{
		Configure: func(c *config.Config) { s.dataDir, c.Provision.Module = c.DataDir, dir },
		Adjust:    shortGrace,
	})
	s.Allocator = testkit.Serve(t, o)
	op := s.Launch(2)
	s.reaches(orders, "lablink-client-2")
	s.stop(op.ID)
	if op = s.Ended(op.ID); op.State != "cancelled" {
		t.Errorf("operation: %+v\n%s", op, s.output(op.ID))
	}
	if left := leftovers(t, filepath.Join(s.dataDir, "terraform")); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	testkit.Order(t, orders, "mend")
	s.succeeded(s.Launch(1))
	if agents := s.agents(); !slices.Contains(agents, "lablink-client-3") || slices.Contains(agents, "lablink-client-2") {
		t.Errorf("agents: %v", agents)
	}
	if rows, agents := len(s.fleet()), len(s.agents()); rows != agents {
		t.Errorf("%d rows, %d agents", rows, agents)
	}
}

// Much output, and long lines, do not stand in the way.
func TestRunner_ModuleFloods(t *testing.T) {
	t.Parallel()
	s := serve(t, withModule(floodingModule(t)))
	op := s.succeeded(s.Launch(1))
	text := s.output(op.ID)
	if len(text) < 1<<20 || !strings.Contains(text, "a line of output that says nothing at all") {
		t.Errorf("%d bytes of output are kept", len(text))
	}
}

// floodingModule prints a line of 3 MB and then a great many short ones. No
// secret goes to that command: Terraform would hide its output.
func floodingModule(t *testing.T) string {
	t.Helper()
	dir := testkit.LocalModule(t, t.TempDir(), start, stop)
	path := filepath.Join(dir, "main.tf")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flood := `
  provisioner "local-exec" {
    command = "head -c 3000000 /dev/zero | tr '\\0' x; echo; yes 'a line of output that says nothing at all' | head -n 30000"
  }
`
	text := strings.Replace(string(data), "  provisioner \"local-exec\" {\n    when", flood+"  provisioner \"local-exec\" {\n    when", 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Everything is destroyed while a launch still runs: the launch ends, and
// nothing is left.
func TestRunner_DestroyDuringALaunch(t *testing.T) {
	t.Parallel()
	orders := t.TempDir()
	s := serve(t, withModule(testkit.LocalModule(t, orders, held("lablink-client-[45]"), stop)))
	launch := s.Launch(5)
	s.reaches(orders, "lablink-client-4")
	waiting := s.Launch(2) // in the queue behind it
	op := s.DestroyAll(7)
	s.succeeded(op)
	for _, id := range []int64{launch.ID, waiting.ID} {
		if op := s.Ended(id); op.State != "cancelled" {
			t.Errorf("launch: %+v", op)
		}
	}
	s.holds()
	if strays, err := s.Store.Strays(t.Context(), "local"); err != nil || len(strays) > 0 {
		t.Errorf("strays: %v, %v", strays, err)
	}
}

// The server stops while Terraform works, and another one takes the operation
// up: also VMs that the first one had made are there once.
func TestRunner_ReplicaTakesOver(t *testing.T) {
	t.Parallel()
	orders := t.TempDir()
	dir := testkit.LocalModule(t, orders, held("lablink-client-[34]"), stop)
	first := serve(t, withModule(dir))
	second := serve2(t, first, dir)
	op := first.Launch(4)
	testkit.Eventually(t, "two VMs", func() bool { return len(second.Operation(op.ID).Hostnames("done")) == 2 })
	first.reaches(orders, "lablink-client-4")
	owner, other := first, second
	if strings.Contains(second.Log.String(), "operation begins") {
		owner, other = second, first
	}
	owner.Stop()
	if left := leftovers(t, filepath.Join(owner.dataDir, "terraform")); len(left) > 0 {
		t.Errorf("the stopped replica left: %v", left)
	}
	testkit.Order(t, orders, "go")
	if op = other.Ended(op.ID); op.State != "succeeded" || len(op.Hostnames("done")) != 4 {
		t.Errorf("operation: %+v\n%s", op, other.output(op.ID))
	}
	if text := other.output(op.ID); !strings.Contains(text, "Taken up again") {
		t.Errorf("the output does not say that it was taken up again:\n%s", text)
	}
	// Agents call the replica that started them; those of the stopped one are in vain.
	names := append(first.agents(), second.agents()...)
	slices.Sort(names)
	if want := []string{"lablink-client-1", "lablink-client-2", "lablink-client-3", "lablink-client-4"}; !slices.Equal(names, want) {
		t.Errorf("agents: %v, want %v", names, want)
	}
}

// serve2 starts another replica on the same database. Its machines are in the
// folder of the first: both stand for one cloud.
func serve2(t *testing.T, first *site, moduleDir string) *site {
	t.Helper()
	s := &site{t: t}
	s.Allocator = testkit.Serve(t, testkit.LocalProvider(t, testkit.ServeOptions{
		DatabaseURL: first.DatabaseURL,
		Configure:   func(c *config.Config) { s.dataDir, c.Provision.Module = c.DataDir, moduleDir },
	}))
	return s
}

// PostgreSQL restarts in the middle of an apply: the operation ends as asked.
func TestRunner_DatabaseRestarts(t *testing.T) {
	t.Parallel()
	orders := t.TempDir()
	pg := testkit.RawServer(t)
	s := &site{t: t}
	dir := testkit.LocalModule(t, orders, held("lablink-client-3"), stop)
	s.Allocator = testkit.Serve(t, testkit.LocalProvider(t, testkit.ServeOptions{
		DatabaseURL: pg.URL(), Configure: func(c *config.Config) { s.dataDir, c.Provision.Module = c.DataDir, dir },
	}))
	op := s.Launch(3)
	s.reaches(orders, "lablink-client-3")
	testkit.RestartServer(t, pg)
	testkit.Order(t, orders, "go")
	s.succeeded(op)
	s.holds(1, 2, 3)
	s.succeeded(s.DestroyAll(3))
	s.holds()
}
