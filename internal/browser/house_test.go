package browser_test

import (
	"testing"

	"github.com/chromedp/chromedp"

	"lablink/internal/fleet"
)

func fullHouse(t *testing.T, c *chromium) {
	s := newSite(t, c, nil)
	s.running("lab-1")
	ben := s.person().open("/")
	ben.sees("1 VM is free")
	ben.fill(emailField, "ben@example.org")
	command := s.command("")
	ben.fill(commandField, command)

	ada := s.person().open("/")
	ada.asks("ada@example.org", s.command(""))
	ada.at("/seat")
	ada.heading("Your VM is ready")

	ben.sees("0 VMs are free", "The only VM is taken.", "This page updates itself", "Waiting for a free VM…")
	// He had pressed the button a moment before the page could tell.
	eval[chromedp.Void](ben, "document.querySelector('form[action=\"/api/request_vm\"]').submit()")
	ben.sees("You have no VM yet: none was free when you asked.", "The only VM is taken.")
	if ben.lastStatus() != 503 {
		t.Errorf("the answer has status %d", ben.lastStatus())
	}
	if ben.value(emailField) != "ben@example.org" || ben.value(commandField) != command {
		t.Errorf("what Ben typed is gone: %q, %q", ben.value(emailField), ben.value(commandField))
	}

	// While he types, the page around him may change, but not what he types.
	ben.mark()
	ben.fill(commandField, "half of a comm")
	if err := s.Store.Release(t.Context(), fleet.Actor{Kind: "admin"}, "lab-1"); err != nil {
		t.Fatal(err)
	}
	ada.heading("Your VM is no longer yours")
	ben.sees("1 VM is free", "A VM is free for you.")
	ben.press("and")
	if got := ben.value(commandField); got != "half of a command" {
		t.Errorf("the field holds %q", got)
	}
	ben.stillMarked()
	ben.fill(commandField, command)
	ben.click("button", submit)
	ben.at("/seat")
	ben.heading("Your VM is ready")
	ben.holds(s, "lab-1")
	if got := s.vm("lab-1").Email; got != "ben@example.org" {
		t.Errorf("the VM belongs to %q", got)
	}
}
