package browser_test

import (
	"context"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"lablink/internal/agent/crd"
	"lablink/internal/fleet"
)

// scriptless opens a tab in which pages run no script. What the tests evaluate
// still runs.
func (p *person) scriptless() *page {
	p.t.Helper()
	pg := p.tab()
	pg.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}))
	return pg
}

// withoutScript is the whole way of a participant whose browser runs no script.
func withoutScript(t *testing.T, c *chromium) {
	s := newSite(t, c, nil)
	p := s.person().scriptless()
	p.visit("/")
	if eval[bool](p, "document.documentElement.classList.contains('js') || 'htmx' in window") {
		t.Fatal("scripts run")
	}
	p.sees("0 VMs are free", "No VM has been created yet.")
	p.fill(emailField, "ada@example.org")
	p.fill(commandField, s.command(""))
	p.click("button", "Try again")
	p.sees("You have no VM yet: none was free when you asked.")
	m := s.machine("lab-1")
	m.closeGate()
	m.start()
	s.eventually("lab-1", "to wait", func(v fleet.VM) bool { return v.Waiting })

	p.click("button", "Try again") // what was typed is still there
	p.at("/seat")
	p.sees("Your VM is being set up")
	if n := p.count("button", "Copy the PIN"); n != 0 {
		t.Errorf("there are %d buttons that copy, which they cannot", n)
	}
	m.letThrough()
	p.heading("Your VM is ready") // the page loads itself again
	p.holds(s, "lab-1")
	m.opens(p.pin())

	p.unfold("It does not work? Send a fresh command")
	p.fill(freshField, s.command("expired"))
	p.click("button", "Send the fresh command")
	m.letThrough()
	p.heading("That did not work")
	p.sees(crd.ReasonCode)
	p.fill(freshField, "not the command")
	p.click("button", "Send the fresh command")
	p.sees(problem("not the command"))
	p.fill(freshField, s.command(""))
	p.click("button", "Send the fresh command")
	m.letThrough()
	p.heading("Your VM is ready")
	pin := p.pin()

	p.click("button", "Forget it on this device")
	p.at("/")
	p.seesNot("You already have a VM")
	p.visit("/seat/find")
	p.fill(emailField, "ada@example.org")
	p.fill("PIN", pin)
	p.click("button", "Open my VM")
	p.at("/seat")
	p.holds(s, "lab-1")
}
