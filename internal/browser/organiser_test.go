package browser_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"lablink/internal/fleet"
	"lablink/internal/testkit"
)

// row waits until the table's line of a machine holds the texts.
func (p *page) row(hostname string, texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		p.until(fmt.Sprintf("%q in the line of %s", text, hostname), fmt.Sprintf(
			`[...document.querySelectorAll('tr')].some(r => r.cells[0].innerText.trim().split(/\s/)[0] === %q && r.innerText.includes(%q))`, hostname, text))
	}
}

// fact waits until a machine's page says so beside a term.
func (p *page) fact(term, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf("%s: %q", term, text), fmt.Sprintf("%s.innerText.includes(%q)", definition(term), text))
}

// hides fails if one of the secrets is anywhere in the page.
func (p *page) hides(secrets ...string) {
	p.t.Helper()
	html := p.html()
	for _, secret := range secrets {
		if strings.Contains(html, secret) {
			p.t.Errorf("%s holds a secret", eval[string](p, "location.pathname"))
		}
	}
}

func organiserWatches(t *testing.T, c *chromium) {
	s := newSite(t, c, nil)
	m := s.machine("lab-1")
	m.closeGate()
	m.start()
	other := s.machine("lab-2")
	other.start()
	s.eventually("lab-1", "to wait", func(v fleet.VM) bool { return v.Waiting })
	s.eventually("lab-2", "to wait", func(v fleet.VM) bool { return v.Waiting })

	admin := s.organiser()
	overview, table, one := admin.open("/admin"), admin.open("/admin/instances"), admin.open("/admin/instances/lab-1")
	pages := []*page{overview, table, one}
	overview.sees("2 free", "0 taken of 2 in all", "2 connected", "No participant has a VM yet.")
	table.row("lab-1", "waiting for a participant", "connected now")
	one.fact("State", "waiting for a participant")
	one.fact("Participant", "nobody")
	for _, p := range pages {
		p.mark()
	}

	// He finds one of them, and keeps looking at what he found.
	find := admin.open("/admin/instances")
	find.with("searchbox", "Find a machine or participant", focusObject)
	find.press("lab-2")
	find.until("one machine", "document.querySelectorAll('tbody tr').length === 1")
	find.mark()

	one.unfold("New token…")
	one.until("open details", detailsOpen)

	code := s.code("")
	ada := s.person().open("/")
	ada.asks("ada@example.org", fleet.CommandFor(code))
	ada.at("/seat")
	holder, bystander := "lab-1", "lab-2"
	if ada.hostname() == "lab-2" {
		t.Fatal("of two VMs that wait the first should be picked")
	}
	overview.sees("1 free", "1 taken of 2 in all", "being set up")
	table.row(holder, "being set up", "ada@example.org", "a moment ago")
	table.row(bystander, "waiting for a participant")
	one.fact("State", "being set up")
	one.fact("Participant", "ada@example.org")
	one.sees("Release the seat…", "To remove the machine, release the seat first.")
	m.letThrough()
	overview.sees("1 ready for their participant")
	table.row(holder, "ready for its participant")
	one.fact("State", "ready for its participant")

	// What he opens stays open while the page around it changes.
	if open := eval[int](one, "document.querySelectorAll('details[open]').length"); open == 0 {
		one.unfold("New token…")
	}
	one.until("open details", detailsOpen)
	for _, report := range []struct {
		path string
		body map[string]any
	}{
		{"/api/update_inuse_status", map[string]any{"hostname": holder, "status": true}},
		{"/api/gpu_health", map[string]any{"hostname": holder, "gpu_status": "Healthy"}},
	} {
		if r := s.Do(t.Context(), testkit.Request{Path: report.path, Token: m.token, JSON: report.body}); r.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", report.path, r.Status, r.Body)
		}
	}
	one.fact("In use", "yes")
	one.fact("GPU", "healthy")
	table.row(holder, "healthy", "yes")
	one.until("details that are still open", detailsOpen)

	find.until("still one machine", "document.querySelectorAll('tbody tr').length === 1")
	for _, p := range append(pages, find) {
		p.stillMarked()
		p.hides(code, s.pin(holder), m.token)
	}
}

const detailsOpen = "document.querySelectorAll('details[open]').length === 1"

func organiserActs(t *testing.T, c *chromium) {
	s := newSite(t, c, nil)
	p := s.organiser().open("/admin/instances")
	p.sees("There are no machines yet.")
	p.click("link", "Register machines")
	p.heading("Register machines")
	p.fill("Host names", "lab-1, lab-2\nLab 3")
	p.click("button", "Register")
	p.sees("is not a valid host name", "Nothing was registered.")
	if got := p.value("Host names"); got != "lab-1, lab-2\nLab 3" {
		t.Errorf("the list is gone: %q", got)
	}
	p.fill("Host names", "lab-1, lab-2\nlab-3\n")
	p.click("button", "Register")
	p.heading("Registered: start the agents")
	p.sees("These tokens are shown only now.")
	tokens := map[string]string{}
	for _, name := range []string{"lab-1", "lab-2", "lab-3"} {
		command := eval[string](p, fmt.Sprintf("[...document.querySelectorAll('section')].find(e => e.innerText.startsWith(%q)).querySelector('pre').innerText", name))
		found := regexp.MustCompile(`printf '%s\\n' ([\w-]+) >`).FindStringSubmatch(command)
		if found == nil || !strings.Contains(command, "lablink agent --allocator "+s.URL+" --hostname "+name+" --token-file ") {
			t.Fatalf("the command is %q", command)
		}
		tokens[name] = found[1]
	}
	all := []string{tokens["lab-1"], tokens["lab-2"], tokens["lab-3"]}

	p.reload() // that is no second registration
	p.heading("Register machines")
	p.hides(all...)
	p.back()
	p.heading("Register machines")
	p.hides(all...)
	p.visit("/admin/instances")
	p.row("lab-3", "not heard of yet")
	p.hides(all...)

	// With such a command the machine comes.
	m := s.machineWith("lab-1", tokens["lab-1"])
	m.start()
	p.row("lab-1", "waiting for a participant")
	code := s.code("")
	ada := s.person().open("/")
	ada.asks("ada@example.org", fleet.CommandFor(code))
	ada.at("/seat")
	ada.heading("Your VM is ready")
	pin := ada.pin()
	m.opens(pin)

	p.click("link", "lab-1")
	p.heading("lab-1")
	p.hides(code, pin)
	p.click("button", "Show the PIN")
	p.heading("PIN of lab-1")
	if got := eval[string](p, `document.querySelector('main section').innerText.replace(/\D/g, '')`); got != pin {
		t.Errorf("the PIN is %s, the page shows %s", pin, got)
	}
	p.hides(code)
	p.click("link", "Back")
	p.heading("lab-1")
	p.hides(code, pin)

	p.unfold("Release the seat…")
	p.click("button", "Release the seat")
	p.sees("The seat is released.")
	ada.heading("Your VM is no longer yours")
	ada.click("link", "Get another VM")
	ada.at("/")
	p.fact("State", "waiting for a participant")
	if vm := s.vm("lab-1"); !vm.Free() {
		t.Errorf("the VM is %+v", vm)
	}
	for _, line := range []string{"Registered", "Status running", "Seat requested", "ada@example.org", "PIN shown", "Seat released", "Free again"} {
		p.until(line+" in the history", fmt.Sprintf("document.querySelector('ol.history').innerText.includes(%q)", line))
	}
	p.hides(code, pin)

	p.unfold("Remove the machine…")
	p.click("button", "Remove the machine")
	p.at("/admin/instances")
	p.sees("The machine is removed.", "1 to 2 of 2")
	p.hides(append(all, code, pin)...)
	if log := s.Log.String(); strings.Contains(log, code) || strings.Contains(log, pin) || strings.Contains(log, all[1]) {
		t.Error("the log holds a secret")
	}
}
