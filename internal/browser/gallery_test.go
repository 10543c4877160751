package browser_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/testkit"
	"lablink/internal/wire"
)

// fetch takes what waits for a VM, as its agent does.
func (m *machine) fetch() int64 {
	m.site.t.Helper()
	r := m.site.Do(m.site.t.Context(), testkit.Request{
		Path: wire.PathStartup, Token: m.token, JSON: wire.StartupRequest{Hostname: m.hostname, Agent: "lablink/test"},
	})
	var reply wire.StartupReply
	r.JSON(m.site.t, &reply)
	return reply.Delivery
}

// answer says how it went.
func (m *machine) answer(delivery int64, result, reason string) {
	m.site.t.Helper()
	r := m.site.Do(m.site.t.Context(), testkit.Request{
		Path: wire.PathCRDResult, Token: m.token, JSON: wire.ResultRequest{Hostname: m.hostname, Delivery: delivery, Result: result, Reason: reason},
	})
	if r.Status != http.StatusOK {
		m.site.t.Fatalf("result of %s: %d %s", m.hostname, r.Status, r.Body)
	}
}

// report sends what the VM says of itself.
func (m *machine) report(path string, body any) {
	m.site.t.Helper()
	if r := m.site.Do(m.site.t.Context(), testkit.Request{Path: path, Token: m.token, JSON: body}); r.Status != http.StatusOK {
		m.site.t.Fatalf("%s of %s: %d %s", path, m.hostname, r.Status, r.Body)
	}
}

const (
	longReason = "Google refused the code: it was used before or is too old. Codes work once, for a few minutes."
	longEmail  = "a.participant.with.a.very.long.name@department-of-computational-biology.example.org"
	longName   = "workshop-2026-computational-neuroscience-client-virtual-machine"
)

func participantPages(t *testing.T, c *chromium) {
	s := newSite(t, c, func(cfg *config.Config) { cfg.Limits.PinFailures = 2 })
	p := s.person().open("/")
	p.sees("No VM has been created yet.")
	p.everybody("home without VMs")

	s.machine("lab-1")
	p.sees("1 VM is free")
	p.everybody("home")
	p.fill(emailField, "ada@example.org")
	p.fill(commandField, notTheCommand)
	p.sees(problem(notTheCommand))
	p.everybody("home while typing something wrong")
	p.fill(commandField, "9/0abcdefgh")
	p.sees("codes start with 4/")
	p.everybody("home while typing something odd")
	p.fill(commandField, s.command(""))
	p.sees("That looks right.")
	p.everybody("home while typing")

	ada := s.person()
	first := ada.open("/")
	first.asks(longEmail, s.command(""))
	first.at("/seat")
	p.sees("The only VM is taken.")
	p.everybody("home when all are taken")
	p.fill(emailField, "ada at example")
	p.fill(commandField, "not the command")
	p.submitUnchecked()
	p.sees("Almost there. Please check:")
	p.everybody("home with errors")
	p.fill(emailField, "ben@example.org")
	p.fill(commandField, s.command(""))
	p.submitUnchecked()
	p.sees("You have no VM yet")
	p.everybody("home when it was full")
	p.fill(emailField, longEmail)
	p.fill(commandField, s.command(""))
	p.submitUnchecked()
	p.heading("This e-mail address already has a VM")
	p.everybody("find, because the address is taken")

	p.visit("/seat/find")
	p.everybody("find")
	for _, answer := range []string{"No VM fits", "No VM fits", "Too many wrong attempts."} {
		p.fill(emailField, longEmail)
		p.fill("PIN", wrong(s.pin("lab-1")))
		p.click("button", "Open my VM")
		p.sees(answer)
		p.until("the answer", "document.readyState === 'complete' && document.querySelector('#pin').value === ''")
		if answer == "No VM fits" {
			p.picture("find with a wrong PIN")
		}
	}
	p.everybody("find after too many tries")

	first.visit("/")
	first.sees("You already have a VM")
	first.everybody("home of somebody who has a VM")
	first.fill(emailField, "ben@example.org")
	first.fill(commandField, s.command(""))
	first.submitUnchecked()
	first.heading("This browser already has a VM")
	first.everybody("other seat")

	p.visit("/seat")
	p.heading("This browser has no VM yet")
	p.everybody("no seat")
	p.visit("/no/such/page")
	p.heading("This page does not exist")
	p.everybody("not found")
}

// submitUnchecked sends the page's form without the browser's own checks, and
// although its button may be off.
func (p *page) submitUnchecked() {
	p.t.Helper()
	p.mark()
	eval[bool](p, "document.querySelector('form[method=post]').submit() || true")
	p.until("the answer", "!window.marked && document.readyState === 'complete'")
}

func seatPages(t *testing.T, c *chromium) {
	s := newSite(t, c, nil)
	m := s.machine(longName)
	p := s.person().open("/")
	p.asks(longEmail, s.command(""))
	p.at("/seat")
	p.heading("Your VM gets your command")
	p.everybody("seat, sent")
	p.heading("Your VM is not answering right now")
	p.everybody("seat, not answering")
	d := m.fetch()
	p.heading("Your VM is being set up")
	p.everybody("seat, being set up")
	s.age(longName, 4*time.Minute)
	p.heading("This takes longer than it should")
	if got := p.title(); !strings.HasPrefix(got, "Takes too long: ") {
		t.Errorf("the title is %q", got)
	}
	p.everybody("seat, overdue")
	m.answer(d, wire.ResultFailed, longReason)
	p.heading("That did not work")
	p.everybody("seat, failed")
	p.fill(freshField, "not the command")
	p.click("button", "Send the fresh command")
	p.sees(problem("not the command"))
	p.everybody("seat, failed, with a wrong fresh command")
	p.fill(freshField, s.command(""))
	p.click("button", "Send the fresh command")
	p.at("/seat")
	m.answer(m.fetch(), wire.ResultConnected, "")
	p.heading("Your VM is ready")
	p.everybody("seat, ready")
	p.unfold("It does not work? Send a fresh command")
	p.everybody("seat, ready, with the form for a fresh command")
	if err := s.Store.Release(t.Context(), fleet.Actor{Kind: "admin"}, longName); err != nil {
		t.Fatal(err)
	}
	p.heading("Your VM is no longer yours")
	p.everybody("seat, ended while open")
	p.reload()
	p.heading("Your VM is no longer yours")
	p.everybody("seat, ended")

	// A client that reports no result.
	old := newSite(t, c, func(cfg *config.Config) { cfg.Auth.Machines = config.MachineOpen })
	old.Register("lab-1")
	q := old.person().open("/")
	q.asks("ada@example.org", old.command(""))
	q.at("/seat")
	old.Do(t.Context(), testkit.Request{Path: wire.PathStartup, JSON: wire.StartupRequest{Hostname: "lab-1"}})
	q.heading("Your VM should be ready")
	q.everybody("seat, should be ready")
	organiser := old.organiser().open("/admin")
	organiser.sees("Machines need no credential.")
	organiser.everybody("admin with open machines")
}

func organiserPages(t *testing.T, c *chromium) {
	s := newSite(t, c, func(cfg *config.Config) { cfg.Limits.LoginFailuresPerMinute = 1000 })
	stranger := s.person().tab()
	stranger.refusesToLogIn()
	stranger.visit("/admin")
	stranger.heading("Please log in")
	stranger.everybody("admin, not logged in")
	stranger.close()

	p := s.organiser().open("/admin")
	p.everybody("admin without machines")
	p.visit("/admin/instances")
	p.everybody("machines, none")
	p.visit("/admin/instances/register")
	p.everybody("register")
	p.fill("Host names", "lab 1")
	p.fill("Host names", "lab_1")
	p.click("button", "Register")
	p.sees("Nothing was registered.")
	p.everybody("register with an error")
	p.fill("Host names", longName+"\nlab-30")
	p.click("button", "Register")
	p.heading("Registered: start the agents")
	p.everybody("tokens")

	s.inEveryState()
	p.visit("/admin")
	p.sees("5 taken of 14 in all")
	p.everybody("admin")
	p.visit("/admin/instances")
	p.everybody("machines")
	p.visit("/admin/instances?q=nobody")
	p.sees("No machine or participant matches")
	p.everybody("machines, none found")
	for _, name := range []string{"lab-1", "lab-3", "lab-4", "lab-7", "lab-8"} {
		p.visit("/admin/instances/" + name)
		p.heading(name)
		for _, summary := range []string{"New token…", "Release the seat…", "I cleaned it by hand…", "Remove the machine…"} {
			if eval[bool](p, "!!"+summaryOf(summary)) {
				p.unfold(summary)
			}
		}
		p.everybody("machine, " + s.vm(name).Hostname + " " + string(s.vm(name).Seat))
	}
	p.visit("/admin/instances/lab-3")
	p.click("button", "Show the PIN")
	p.heading("PIN of lab-3")
	p.everybody("pin")
	p.visit("/admin/instances/lab-99")
	p.everybody("no such machine")
}

// inEveryState makes machines in every state that the organiser may meet.
func (s *site) inEveryState() {
	s.t.Helper()
	names := []string{"lab-1", "lab-2", "lab-3", "lab-4", "lab-5", "lab-6", "lab-7", "lab-8", "lab-9", "lab-10", "lab-11", "lab-12"}
	machines := map[string]*machine{}
	seat := func(name, email, result, reason string, release bool) {
		m := s.machine(name)
		machines[name] = m
		r := s.Do(s.t.Context(), testkit.Request{
			Path: "/api/request_vm", JSON: map[string]string{"email": email, "crd_command": s.command("")},
		})
		if r.Status != http.StatusOK {
			s.t.Fatalf("a VM for %s: %d %s", email, r.Status, r.Body)
		}
		if result == "" {
			return
		}
		d := m.fetch()
		if result == "fetched" {
			return
		}
		m.answer(d, result, reason)
		if release {
			if err := s.Store.Release(s.t.Context(), fleet.Actor{Kind: "admin", Address: "192.0.2.1"}, name); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	seat("lab-2", "two@example.org", "", "", false)
	seat("lab-3", longEmail, wire.ResultConnected, "", false)
	seat("lab-4", "four@example.org", wire.ResultFailed, longReason, false)
	seat("lab-5", "five@example.org", "fetched", "", false)
	seat("lab-6", "six@example.org", wire.ResultConnected, "", false)
	machines["lab-6"].report(wire.PathGPU, wire.GPURequest{Hostname: "lab-6", GPUStatus: string(fleet.Unhealthy)})
	inUse := true
	machines["lab-3"].report(wire.PathInUse, wire.InUseRequest{Hostname: "lab-3", Status: &inUse})
	seat("lab-7", "seven@example.org", wire.ResultConnected, "", true)
	seat("lab-8", "eight@example.org", wire.ResultConnected, "", true)
	machines["lab-8"].answer(machines["lab-8"].fetch(), wire.ResultFailed,
		"Chrome Remote Desktop could not be stopped, so the desktop may still belong to the last Google account. The VM's log says why.")
	for name, status := range map[string]fleet.Status{"lab-9": fleet.StatusError, "lab-10": fleet.StatusRebooting, "lab-11": fleet.StatusInitializing} {
		machines[name] = s.machine(name)
		machines[name].report(wire.PathStatus, wire.StatusRequest{Hostname: name, Status: string(status)})
	}
	for _, name := range names {
		if machines[name] == nil {
			machines[name] = s.machine(name)
			machines[name].report(wire.PathGPU, wire.GPURequest{Hostname: name, GPUStatus: string(fleet.Healthy)})
		}
	}
}
