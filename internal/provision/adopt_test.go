package provision_test

import (
	"strings"
	"testing"

	"lablink/internal/provision"
)

const adopting = `
resource "terraform_data" "machine" {
  for_each = var.vms
  lifecycle { ignore_changes = all }
}
resource "terraform_data" "shared" {}
variable "operation" {}
output "operation" { value = var.operation }
`

// What exists, and what Terraform's state does not know, gets into it and is not
// made again.
func TestAdopt(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, binary, databaseURL string) {
		w, out := workspace(t, binary, files(map[string]string{"more.tf": adopting}), backend(t, databaseURL))
		w.Operation = "17"
		open(t, w)
		machine := provision.Thing{Hostname: "vm-1", ID: "i-0001", Address: `terraform_data.machine["vm-1"]`}
		shared := provision.Thing{ID: "sg-0001", Address: "terraform_data.shared"}
		for thing, want := range map[provision.Thing]bool{
			machine: true, shared: true, {Hostname: "vm-1", Address: machine.Address}: false, {ID: "eip-1", Address: `aws_eip.machine["vm-1"]`}: false,
		} {
			if w.Adoptable(thing) != want {
				t.Errorf("adoptable: %+v is %v", thing, !want)
			}
		}
		for range 2 { // also when a plan of it was dropped
			if err := w.Adopt([]provision.Thing{machine, shared}); err != nil {
				t.Fatal(err)
			}
			p := plan(t, w, 1, 2)
			if p.Creates("vm-1") || !p.Exists("vm-1") || p.Empty() || !p.Creates("vm-2") {
				t.Errorf("plan: %+v", p)
			}
			for address, id := range map[string]string{machine.Address: machine.ID, shared.Address: shared.ID} {
				if got, known := p.Knows(address); got != id || !known {
					t.Errorf("%s is %q, known %v", address, got, known)
				}
			}
			if _, known := p.Knows(`terraform_data.machine["vm-2"]`); known {
				t.Error("what is to be made is known already")
			}
		}
		p := plan(t, w, 1, 2)
		if e, _ := apply(t, w, p); e.String() != "vm-2: begun created" {
			t.Errorf("events: %s", e)
		}
		if id, known := p.Knows(`terraform_data.machine["vm-2"]`); id == "" || !known {
			t.Error("what was made is not known")
		}
		// Once is enough, and without the VM there is no place for it.
		if err := w.Adopt(nil); err != nil {
			t.Fatal(err)
		}
		p = plan(t, w, 2)
		if e, _ := apply(t, w, p); e.String() != "vm-1: begun destroyed" {
			t.Errorf("events: %s\n%s", e, out.text())
		}
		if _, known := p.Knows(machine.Address); known {
			t.Error("what is destroyed is still known")
		}
		if !strings.Contains(out.text(), "Outputs") {
			t.Errorf("output:\n%s", out.text())
		}
	})
}
