package provision_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lablink/internal/provision"
)

// lab is a module whose VMs have two resources each, in a child module, beside
// something in each zone. What a machine does is up to the shell commands in the
// files create and destroy of a folder.
func lab(t *testing.T) (module fstest.MapFS, orders string) {
	t.Helper()
	orders = t.TempDir()
	write(t, filepath.Join(orders, "create"), "")
	write(t, filepath.Join(orders, "destroy"), "")
	return fstest.MapFS{
		"main.tf": {Data: []byte(`
variable "vms" { type = map(object({ instance_type = string })) }
variable "tokens" {
  type      = map(string)
  sensitive = true
}
variable "orders" { type = string }
resource "terraform_data" "zone" {
  for_each = toset(["us-west-2a", "us-west-2b"])
  input    = each.key
}
module "vm" {
  for_each = var.vms
  source   = "./vm"
  name     = each.key
  token    = lookup(var.tokens, each.key, "")
  orders   = var.orders
}
output "vms" {
  value = { for name, vm in module.vm : name => { id = vm.id, address = "10.0.0.${length(name)}", more = 1 } }
}
`)},
		"vm/main.tf": {Data: []byte(`
variable "name" { type = string }
variable "orders" { type = string }
variable "token" {
  type      = string
  sensitive = true
}
resource "terraform_data" "disk" {
  input = { name = var.name, orders = var.orders }
  provisioner "local-exec" {
    when    = destroy
    command = ". '${self.input.orders}/destroy'"
    environment = { NAME = self.input.name }
  }
}
resource "terraform_data" "machine" {
  count = 1
  input = terraform_data.disk.id
  provisioner "local-exec" {
    command     = ". '${var.orders}/create'"
    environment = { NAME = var.name, TOKEN = var.token }
  }
}
output "id" { value = terraform_data.machine[0].id }
`)},
	}, orders
}

// changed is a module with something replaced in one of its files.
func changed(module fstest.MapFS, name, old, replacement string) fstest.MapFS {
	m := maps.Clone(module)
	m[name] = &fstest.MapFile{Data: []byte(strings.Replace(string(m[name].Data), old, replacement, 1))}
	return m
}

func labWorkspace(t *testing.T, binary, databaseURL string) (w *provision.Workspace, out *output, module fstest.MapFS, orders string) {
	t.Helper()
	module, orders = lab(t)
	w, out = workspace(t, binary, module, backend(t, databaseURL))
	w.Provider.Inputs["orders"] = orders
	return w, out, module, orders
}

func nobody(string) bool { return false }

func names(machines map[string]provision.Machine) string {
	return strings.Join(slices.Sorted(maps.Keys(machines)), " ")
}

func TestWorkspace_Life(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, binary, databaseURL string) {
		w, out, _, orders := labWorkspace(t, binary, databaseURL)
		open(t, w)

		// Three.
		p := plan(t, w, 1, 2, 3)
		if got := strings.Join(p.VMs(), " "); got != "vm-1 vm-2 vm-3" || p.Empty() || !p.Creates("vm-1") || p.Exists("vm-1") || p.Deletes("vm-1") {
			t.Errorf("plan of the first three: %+v", p)
		}
		e, first := apply(t, w, p)
		if got := e.String(); got != "vm-1: begun created; vm-2: begun created; vm-3: begun created" {
			t.Errorf("events: %s", got)
		}
		if names(first) != "vm-1 vm-2 vm-3" || first["vm-1"].ID == "" || first["vm-1"].Address != "10.0.0.4" {
			t.Errorf("outputs: %v", first)
		}
		if p := plan(t, w, 1, 2, 3); !p.Empty() || !p.Exists("vm-2") || len(p.VMs()) != 3 {
			t.Errorf("plan of what is there: %+v", p)
		}

		// Two more, in another process.
		open(t, w)
		p = plan(t, w, 1, 2, 3, 4, 5)
		if p.Creates("vm-1") || p.Deletes("vm-1") || !p.Exists("vm-1") || !p.Creates("vm-5") || len(p.Unasked(nobody, true)) > 0 {
			t.Errorf("plan of two more: %+v", p)
		}
		e, second := apply(t, w, p)
		if got := e.String(); got != "vm-4: begun created; vm-5: begun created" {
			t.Errorf("events: %s", got)
		}
		if names(second) != "vm-1 vm-2 vm-3 vm-4 vm-5" || second["vm-2"] != first["vm-2"] {
			t.Errorf("outputs: %v, before %v", second, first)
		}

		// One less.
		p = plan(t, w, 1, 3, 4, 5)
		if got := p.Unasked(nobody, true); !slices.Equal(got, []string{"vm-2"}) || p.Creates("vm-2") || !p.Deletes("vm-2") {
			t.Errorf("plan without vm-2: %+v, unasked %v", p, got)
		}
		if e, _ = apply(t, w, p); e.String() != "vm-2: begun destroyed" {
			t.Errorf("events: %s", e)
		}

		// Of two more, one fails.
		write(t, filepath.Join(orders, "create"), `if [ $NAME = vm-6 ]; then echo "no capacity for $TOKEN"; exit 3; fi`)
		p = plan(t, w, 1, 3, 4, 5, 6, 7)
		e = &events{}
		_, err := w.Apply(t.Context(), p, e.add)
		failure, ok := errors.AsType[*provision.ApplyError](err)
		if !ok || len(failure.Reasons) != 1 || !strings.Contains(failure.Reasons["vm-6"], "no capacity for [secret]") || failure.General != "" {
			t.Errorf("error: %#v", err)
		}
		if got := e.String(); got != "vm-6: begun failed; vm-7: begun created" {
			t.Errorf("events: %s", got)
		}
		p = plan(t, w, 1, 3, 4, 5, 6, 7)
		if !p.Exists("vm-6") || !p.Creates("vm-6") || !p.Deletes("vm-6") || p.Creates("vm-7") || !slices.Equal(p.Unasked(nobody, true), []string{"vm-6"}) {
			t.Errorf("plan after vm-6 has failed: %+v", p)
		}

		// A machine that cannot be destroyed.
		write(t, filepath.Join(orders, "destroy"), `if [ $NAME = vm-3 ]; then echo "it is protected"; exit 1; fi`)
		e = &events{}
		machines, err := w.Apply(t.Context(), plan(t, w, 1, 4, 5, 7), e.add)
		failure, _ = errors.AsType[*provision.ApplyError](err)
		if failure == nil || len(failure.Reasons) != 1 || !strings.Contains(failure.Reasons["vm-3"], "it is protected") {
			t.Errorf("error: %v", err)
		}
		if got := e.String(); got != "vm-3: begun failed; vm-6: begun destroyed" {
			t.Errorf("events: %s", got)
		}
		t.Logf("outputs after an error: %v", machines)

		// The end.
		write(t, filepath.Join(orders, "destroy"), "")
		p = plan(t, w)
		if got := p.Unasked(isVM, false); len(got) > 0 || len(p.VMs()) != 5 {
			t.Errorf("plan of nothing: %+v, unasked %v", p, got)
		}
		if e, last := apply(t, w, p); strings.Count(e.String(), "destroyed") != 5 || len(last) > 0 {
			t.Errorf("events: %s; outputs: %v", e, last)
		}
		if p := plan(t, w); !p.Empty() || len(p.VMs()) > 0 {
			t.Errorf("plan of nothing more: %+v", p)
		}
		holdsNoSecret(t, w, out)
	})
}

// holdsNoSecret looks for secrets in what is left after an operation.
func holdsNoSecret(t *testing.T, w *provision.Workspace, out *output) {
	t.Helper()
	secrets := []string{token, w.Backend.PostgresURL}
	for _, secret := range secrets {
		if strings.Contains(out.text(), secret) {
			t.Errorf("%q is in the output:\n%s", secret, out.text())
		}
	}
	if err := os.Remove(filepath.Join(w.Dir, "lablink.tfplan")); err != nil { // one that was not applied
		t.Error(err)
	}
	err := filepath.WalkDir(w.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, secret := range secrets {
			if strings.Contains(string(data), secret) {
				t.Errorf("%q is in %s (%s)", secret, path, info.Mode())
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(w.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the working folder: %v, %v", info.Mode(), err)
	}
}

// A module that has changed so that it would replace VMs, or what they share.
func TestPlan_Changed(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, binary, databaseURL string) {
		w, _, module, _ := labWorkspace(t, binary, databaseURL)
		open(t, w)
		apply(t, w, plan(t, w, 1, 2))
		reopen := func(m fstest.MapFS) *provision.Plan {
			w.Provider.Module = m
			open(t, w)
			return plan(t, w, 1, 2)
		}
		only1 := func(name string) bool { return name == "vm-1" }

		p := reopen(changed(module, "vm/main.tf", "count = 1", "count = 1\n  triggers_replace = 1"))
		if got := p.Unasked(only1, true); !slices.Equal(got, []string{"vm-2"}) || !p.Creates("vm-1") || !p.Deletes("vm-1") || !p.Exists("vm-1") {
			t.Errorf("replaced: %+v, unasked %v", p, got)
		}
		p = reopen(changed(module, "main.tf", `, "us-west-2b"`, ""))
		if got := p.Unasked(nobody, true); !slices.Equal(got, []string{`terraform_data.zone["us-west-2b"]`}) || len(p.Unasked(nobody, false)) > 0 {
			t.Errorf("one zone less: %+v, unasked %v", p, got)
		}
		if got := strings.Join(p.VMs(), " "); got != "vm-1 vm-2" || p.Empty() {
			t.Errorf("zones count as VMs: %s", got)
		}
		// Terraform would keep the machines, and know nothing of them any more.
		renamed := changed(module, "main.tf", "in module.vm", "in module.renamed")
		p = reopen(changed(renamed, "main.tf", `module "vm" {`, "removed {\n  from = module.vm\n  lifecycle {\n    destroy = false\n  }\n}\nmodule \"renamed\" {"))
		if got := p.Unasked(only1, true); !slices.Equal(got, []string{"vm-2"}) || !p.Creates("vm-1") || !p.Deletes("vm-1") {
			t.Errorf("forgotten: %+v, unasked %v", p, got)
		}
		// The same under another name is no change, but is to be noted.
		p = reopen(changed(renamed, "main.tf", `module "vm" {`, "moved {\n  from = module.vm\n  to   = module.renamed\n}\nmodule \"renamed\" {"))
		if len(p.Unasked(nobody, true)) > 0 || p.Empty() || p.Creates("vm-1") || !p.Exists("vm-1") {
			t.Errorf("moved: %+v", p)
		}
		if e, machines := apply(t, w, p); e.String() != "" || names(machines) != "vm-1 vm-2" {
			t.Errorf("moved: events %s, outputs %v", e, machines)
		}
	})
}

// An admin stops a launch: what is made stays known, and nothing goes on.
func TestApply_Interrupted(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, binary, databaseURL string) {
		w, out, _, orders := labWorkspace(t, binary, databaseURL)
		open(t, w)
		write(t, filepath.Join(orders, "create"), `if [ $NAME = vm-2 ]; then echo waits >&2; sleep 1000 & wait; fi`)
		p := plan(t, w, 1, 2)
		ctx, cancel := context.WithCancel(t.Context())
		e := &events{}
		_, err := w.Apply(ctx, p, func(ev provision.Event) {
			e.add(ev)
			// vm-2 may not have begun to wait. It must not be made in either case.
			if ev.Kind == provision.VMCreated {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error: %v", err)
		}
		if left := marked(t, w.Dir); len(left) > 0 {
			t.Errorf("processes are left: %v", left)
		}
		if got := e.String(); !strings.HasPrefix(got, "vm-1: begun created") || strings.Contains(strings.TrimPrefix(got, "vm-1: begun created"), "created") {
			t.Errorf("events: %s\n%s", got, out.text())
		}
		write(t, filepath.Join(orders, "create"), "")
		open(t, w)
		p = plan(t, w, 1, 2)
		if !p.Exists("vm-1") || p.Creates("vm-1") || p.Deletes("vm-1") || !p.Creates("vm-2") {
			t.Errorf("plan after an interrupt: %+v", p)
		}
		apply(t, w, p)
	})
}
