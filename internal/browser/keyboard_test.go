package browser_test

import (
	"context"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func focusObject(ctx context.Context, t *chromedp.Target, o object) error {
	_, err := cdp.Call(ctx, t, dom.Focus, dom.FocusParams{ObjectID: o})
	return err
}

// tabTo presses Tab until the keyboard works on something, and fails where the
// reader could not see on what.
func (p *page) tabTo(id string) {
	p.t.Helper()
	for range 25 {
		p.press(kb.Tab)
		if !eval[bool](p, `(s => s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2)(getComputedStyle(document.activeElement))`) {
			p.t.Errorf("the focus on %q is not visible", p.focused())
		}
		if p.focused() == id {
			return
		}
	}
	p.t.Fatalf("Tab does not reach %q\n%s", id, p.describe())
}

func byKeyboard(t *testing.T, c *chromium) {
	s := newSite(t, c, nil)
	s.running("lab-1")
	p := s.person().open("/")
	p.sees("1 VM is free")
	p.tabTo("Skip to the content")
	p.press(kb.Enter)
	p.until("the content to have the focus", "location.hash === '#main'")
	p.tabTo("email")
	p.press("ada at example")
	p.tabTo("crd_command")
	p.press("hello there")
	p.tabTo(submit)

	// The browser checks first, in its own words.
	p.press(kb.Enter)
	p.until("the wrong field to have the focus", "document.activeElement.id === 'email'")
	p.at("/")
	eval[chromedp.Void](p, "document.querySelectorAll('form').forEach(f => { f.noValidate = true })")
	p.press(kb.Enter)
	p.sees("Almost there. Please check:")
	p.sees("That does not look like an e-mail address.")
	p.until("the first wrong field to have the focus", "document.activeElement.id === 'email'")
	if p.lastStatus() != 400 {
		t.Errorf("the answer has status %d", p.lastStatus())
	}
	p.fill(emailField, "ada@example.org")
	p.press(kb.Enter)
	p.until("only the command to be wrong", "document.readyState === 'complete' && document.querySelectorAll('[aria-invalid=true]').length === 1")
	p.until("the wrong field to have the focus", "document.activeElement.id === 'crd_command'")
	p.sees(problem("hello there"))
	p.fill(commandField, s.command("expired"))
	p.tabTo(submit)
	p.press(kb.Enter)
	p.at("/seat")
	p.heading("That did not work")
	p.tabTo("crd_command")
	p.press("not the command")
	p.tabTo("Send the fresh command")
	p.press(" ")
	p.sees(problem("not the command"))
	p.until("the wrong field to have the focus", "document.activeElement.name === 'crd_command'")
	p.fill(freshField, s.command(""))
	p.tabTo("Send the fresh command")
	p.press(kb.Enter)
	p.heading("Your VM is ready")
	p.tabTo("Open Google’s access page (opens in a new tab)")
	p.tabTo("Copy")
	p.press(kb.Enter)
	p.until("the button to say Copied", "document.activeElement.innerText === 'Copied'")

	// Another device: errors lead to the field, too.
	q := s.person().open("/seat/find")
	q.until("the first field to have the focus", "document.activeElement.id === 'email'")
	q.press("ada@example.org")
	q.tabTo("pin")
	q.press("000")
	q.press(kb.Enter)
	q.sees("No VM fits this e-mail address and PIN.")
	q.until("the wrong field to have the focus", "document.readyState === 'complete' && document.activeElement.id === 'pin'")
}
