package jobs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lablink/internal/config"
	"lablink/internal/testkit"
)

// terraform writes a program that stands for Terraform and lets it run, except
// for plans of which the shell condition holds; $n is the number of the plan.
func terraform(t *testing.T, condition string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "terraform")
	script := fmt.Sprintf(`#!/bin/sh
if [ "$1" = plan ]; then
	n=$(($(cat %[1]s/plans 2>/dev/null || echo 0) + 1))
	echo $n >%[1]s/plans
	! %[2]s || { echo 'Error acquiring the state lock' >&2; exit 1; }
fi
exec %[3]s "$@"
`, dir, condition, testkit.Terraform(t))
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// Two of four VMs are made, and a participant may hold them, when the server
// stops. Whatever goes wrong when the launch is taken up again, they stay.
func TestRunner_ResumptionNeverTouchesWhatWasMade(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, state string }{
		"it was stopped":     {`UPDATE operations SET stopping = true`, "cancelled"},
		"its plan fails":     {"", "failed"},
		"its module is gone": {"", "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			orders := t.TempDir()
			dir := testkit.LocalModule(t, orders, held("lablink-client-[34]"), stop)
			first := serve(t, withModule(dir))
			op := first.Launch(4)
			testkit.Eventually(t, "two VMs", func() bool { return len(first.Operation(op.ID).Hostnames("done")) == 2 })
			first.reaches(orders, "lablink-client-4")
			first.Stop()
			if c.sql != "" {
				first.exec(c.sql)
			}
			testkit.Order(t, orders, "go")
			second := &site{t: t}
			second.Allocator = testkit.Serve(t, testkit.LocalProvider(t, testkit.ServeOptions{
				DatabaseURL: first.DatabaseURL,
				Configure: func(cfg *config.Config) {
					second.dataDir, cfg.Provision.Module = cfg.DataDir, dir
					switch name {
					case "its plan fails":
						cfg.Provision.Terraform = terraform(t, "[ $n = 1 ]")
					case "its module is gone":
						cfg.Provision.Module = t.TempDir()
					}
				},
			}))
			op = second.Ended(op.ID)
			if op.State != c.state || !slices.Equal(op.Hostnames("done"), []string{"lablink-client-1", "lablink-client-2"}) {
				t.Errorf("operation: %+v\n%s", op, second.output(op.ID))
			}
			if agents := first.agents(); !slices.Equal(agents, []string{"lablink-client-1", "lablink-client-2"}) {
				t.Errorf("agents: %v", agents)
			}
			for _, hostname := range []string{"lablink-client-1", "lablink-client-2"} {
				if status := second.fleet()[hostname]; status != "running" {
					t.Errorf("%s is %q", hostname, status)
				}
			}
		})
	}
}

// The clean-up after a stop fails. What is left of the VM, which has no row any
// more, stands in nobody's way, and is removed with the next operation.
func TestRunner_LeftoversBlockNothing(t *testing.T) {
	t.Parallel()
	orders := t.TempDir()
	dir := testkit.LocalModule(t, orders, held("lablink-client-2"), stop)
	s := serve(t, func(c *config.Config) {
		c.Provision.Module, c.Provision.Terraform = dir, terraform(t, "[ $n = 2 ]")
	})
	op := s.Launch(2)
	s.reaches(orders, "lablink-client-2")
	testkit.Eventually(t, "one VM", func() bool { return len(s.Operation(op.ID).Hostnames("done")) == 1 })
	s.stop(op.ID)
	if op = s.Ended(op.ID); op.State != "cancelled" || !strings.Contains(op.Error, "may cost money") {
		t.Errorf("stopped: %+v", op)
	}
	testkit.Order(t, orders, "go")
	op = s.succeeded(s.Launch(1))
	if text := s.output(op.ID); !strings.Contains(text, "lablink-client-2 is what is left of a VM that was destroyed") {
		t.Errorf("output:\n%s", text)
	}
	s.holds(1, 3)
	s.succeeded(s.DestroyAll(2))
	s.holds()
}

// A second resource of each VM, of which that of the second VM fails.
const secondResource = `
resource "terraform_data" "extra" {
  for_each = var.vms
  input    = { id = terraform_data.vm[each.key].id }
  lifecycle {
    ignore_changes = [input]
  }
  provisioner "local-exec" {
    command     = "test $H != lablink-client-2 || test -e ORDERS/mend"
    environment = { H = each.key }
  }
}
`

func twoResources(t *testing.T, orders, destroy string) string {
	t.Helper()
	dir := testkit.LocalModule(t, orders, start, destroy)
	text := strings.ReplaceAll(secondResource, "ORDERS", orders)
	if err := os.WriteFile(filepath.Join(dir, "extra.tf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A VM of two resources fails, and so does its clean-up: it can be tried again.
func TestRunner_RetryAfterFailedCleanUp(t *testing.T) {
	t.Parallel()
	orders := t.TempDir()
	s := serve(t, withModule(twoResources(t, orders, `[ -e $ORDERS/mend ] || exit 1; `+stop)))
	op := s.Ended(s.Launch(2).ID)
	if op.State != "succeeded" || !slices.Equal(op.Hostnames("failed"), []string{"lablink-client-2"}) || !strings.Contains(op.Error, "may cost money") {
		t.Fatalf("launch: %+v\n%s", op, s.output(op.ID))
	}
	testkit.Order(t, orders, "mend")
	op = s.Ended(s.retry(op.ID).ID)
	if op.State != "succeeded" || len(op.Hostnames("done")) != 1 {
		t.Errorf("retry: %+v\n%s", op, s.output(op.ID))
	}
	s.holds(1, 2)
}

// A clean-up that hangs can be stopped.
func TestRunner_StopACleanUp(t *testing.T) {
	t.Parallel()
	orders := t.TempDir()
	s := &site{t: t}
	module := twoResources(t, orders, `[ -e $ORDERS/mend ] || { touch $ORDERS/at-clean; while :; do sleep 1; done; }; `+stop)
	s.Allocator = testkit.Serve(t, testkit.LocalProvider(t, testkit.ServeOptions{
		Configure: func(c *config.Config) { s.dataDir, c.Provision.Module = c.DataDir, module },
		Adjust:    shortGrace,
	}))
	op := s.Launch(2)
	testkit.Eventually(t, "the clean-up", func() bool { return testkit.Ordered(orders, "at-clean") })
	s.stop(op.ID)
	op = s.Ended(op.ID)
	if len(op.Hostnames("done")) != 1 || !strings.Contains(op.Error, "may cost money") {
		t.Errorf("operation: %+v\n%s", op, s.output(op.ID))
	}
	if left := leftovers(t, filepath.Join(s.dataDir, "terraform")); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	testkit.Order(t, orders, "mend")
	s.succeeded(s.retry(op.ID))
	s.holds(1, 2)
}

// An error with bytes that the database takes in no text ends the operation as
// any other.
func TestRunner_OddErrorText(t *testing.T) {
	t.Parallel()
	dir := testkit.LocalModule(t, t.TempDir(), start, stop)
	odd := filepath.Join(dir, "caf\xe9") //nolint:gocritic // no UTF-8, on purpose
	if err := os.Symlink(t.TempDir(), odd); err != nil {
		t.Fatal(err)
	}
	s := serve(t, withModule(dir))
	if op := s.Ended(s.Launch(1).ID); op.State != "failed" || !strings.Contains(op.Error, "caf\uFFFD") {
		t.Errorf("operation: %+v", op)
	}
}

// A stop that comes after the last VM changes nothing, and says nothing else.
func TestRunner_LateStop(t *testing.T) {
	t.Parallel()
	orders := t.TempDir()
	slow := filepath.Join(t.TempDir(), "terraform")
	script := "#!/bin/sh\n[ \"$1\" = apply ] || exec " + testkit.Terraform(t) + " \"$@\"\ntrap '' INT\nsetsid " + testkit.Terraform(t) +
		" \"$@\"\nended=$?\nuntil [ -e " + orders + "/go ]; do sleep 0.02; done\nexit $ended\n"
	if err := os.WriteFile(slow, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	s := serve(t, func(c *config.Config) { c.Provision.Terraform = slow })
	op := s.Launch(2)
	testkit.Eventually(t, "two VMs", func() bool { return len(s.Operation(op.ID).Hostnames("done")) == 2 })
	s.stop(op.ID)
	testkit.Order(t, orders, "go")
	if op = s.Ended(op.ID); op.State != "succeeded" {
		t.Errorf("operation: %+v", op)
	}
	s.holds(1, 2)
}

// A launch was begun by a runner that died before its first plan; the state
// holds somebody else's machine of that name.
func TestRunner_ForeignMachineAtResumption(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.succeeded(s.Launch(1))
	s.exec(`ALTER TABLE vm_events DISABLE TRIGGER USER`)
	s.exec(`TRUNCATE operations, operation_vms, operation_output, vm_events, vm_tokens, hostname_numbers, vms, polls RESTART IDENTITY`)
	s.exec(`CREATE FUNCTION orphaned() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN NEW.attempt := 1; NEW.state := 'running'; NEW.phase := 'preparing'; RETURN NEW; END $$`)
	s.exec(`CREATE TRIGGER orphaned BEFORE INSERT ON operations FOR EACH ROW EXECUTE FUNCTION orphaned()`)
	op := s.Ended(s.Launch(1).ID)
	if op.State != "failed" || !strings.Contains(op.Error, "already holds lablink-client-1") {
		t.Errorf("operation: %+v", op)
	}
}
