package browser_test

import (
	"fmt"
	"strings"
	"testing"

	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/testkit"
)

// newCloud is a site whose VMs come from Terraform. The second VM waits for the
// order "go" before it starts, and the third cannot be made before "mend".
func newCloud(t *testing.T, c *chromium) (s *site, orders string) {
	t.Helper()
	orders = t.TempDir()
	module := testkit.LocalModule(t, orders, `case $VM_HOSTNAME in
		lablink-client-2) until [ -e $ORDERS/go ]; do sleep 0.05; done;;
		lablink-client-3) [ -e $ORDERS/mend ] || { echo 'InsufficientInstanceCapacity: <b>no</b> machine of this type is left' >&2; exit 1; };;
		esac; `+testkit.StartAgent, testkit.StopAgent)
	return &site{
		Allocator: testkit.Serve(t, testkit.LocalProvider(t, testkit.ServeOptions{
			Configure: func(cfg *config.Config) { cfg.Provision.Module = module },
		})),
		t: t, chromium: c,
	}, orders
}

const capacity = "InsufficientInstanceCapacity: <b>no</b> machine of this type is left"

// bar waits until the progress bar stands so.
func (p *page) bar(done, all int) {
	p.t.Helper()
	p.until(fmt.Sprintf("%d of %d", done, all), fmt.Sprintf(
		"document.querySelector('progress').value === %d && document.querySelector('progress').max === %d", done, all))
}

func organiserLaunches(t *testing.T, c *chromium) {
	s, orders := newCloud(t, c)
	admin := s.organiser()
	p := admin.open("/admin")
	p.sees("Create VMs", "Destroy All VMs", "Create VMs to begin")
	p.visit("/admin/create")
	p.everybody("create VMs")
	p.fillIn("spinbutton", "How many VMs", "3")
	p.click("button", "Launch")
	p.at("/admin/operations/1")
	p.heading("Launch of 3 VMs")
	p.row("lablink-client-1", "waiting for a participant")
	p.row("lablink-client-2", "being created")
	p.row("lablink-client-3", "could not be created")
	p.bar(1, 3)
	p.everybody("operation under way")

	// In the middle, it is loaded again; what is opened stays so while it goes on.
	p.reload()
	p.row("lablink-client-1", "waiting for a participant")
	p.row("lablink-client-2", "being created")
	p.unfold("Terraform’s output")
	p.sees(`terraform_data.vm["lablink-client-1"]: Creation complete`)
	p.mark()
	testkit.Order(t, orders, "go")
	p.bar(2, 3)
	p.row("lablink-client-2", "waiting for a participant")
	p.row("lablink-client-3", capacity)
	p.sees("Try the failed VMs again", `terraform_data.vm["lablink-client-2"]: Creation complete`)
	p.stillMarked()
	p.until("open output", detailsOpen)
	p.everybody("operation with a failed VM")

	testkit.Order(t, orders, "mend")
	p.click("button", "Try the failed VMs again")
	p.at("/admin/operations/2")
	p.row("lablink-client-3", "waiting for a participant")
	p.bar(1, 1)

	// A participant takes one, and loses it when all are destroyed.
	ada := s.person().open("/")
	ada.asks("ada@example.org", fleet.CommandFor(s.code("")))
	ada.at("/seat")
	ada.holds(s, "lablink-client-1")

	p.visit("/admin/instances")
	p.row("lablink-client-2", "waiting for a participant")
	p.click("checkbox", "Select lablink-client-2")
	p.click("button", "Destroy selected…")
	p.sees("lablink-client-2", "Held by nobody")
	p.everybody("destroy a selection")
	p.click("button", "Destroy lablink-client-2")
	p.at("/admin/operations/3")
	p.row("lablink-client-2", "destroyed")
	p.everybody("destruction")

	p.visit("/admin")
	p.click("link", "Destroy All VMs")
	p.at("/admin/instances/delete")
	p.sees("Held by participants", "ada@example.org", "lablink-client-3")
	p.everybody("destroy all")
	const confirm = "Type 2, the number of VMs, to confirm"
	p.fill(confirm, "3")
	p.expect("400")
	p.click("button", "Destroy All VMs")
	p.sees("There are 2 VMs, not 3")
	if got := p.focused(); !strings.Contains(got, "confirm") {
		t.Errorf("the focus is on %s", got)
	}
	p.fill(confirm, "2")
	p.click("button", "Destroy All VMs")
	p.at("/admin/operations/4")
	p.row("lablink-client-1", "destroyed")
	p.row("lablink-client-3", "destroyed")
	p.bar(2, 2)
	ada.heading("Your VM is no longer yours")
	p.visit("/admin/instances")
	p.sees("There are no machines yet.")
	p.visit("/admin/operations")
	p.sees("Launch of 3 VMs", "Destruction of 2 VMs")
	p.everybody("operations")
}
