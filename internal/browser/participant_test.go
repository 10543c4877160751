package browser_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"lablink/internal/agent/crd"
	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/testkit"
)

// Names of what participants fill in and press.
const (
	emailField   = "Your e-mail address"
	commandField = "The command from Google"
	freshField   = "The fresh command from Google"
	submit       = "Get my VM"
)

// asks fills in the form of the start page and sends it.
func (p *page) asks(email, command string) {
	p.t.Helper()
	p.fill(emailField, email)
	p.fill(commandField, command)
	p.click("button", submit)
}

// What people paste by mistake.
const (
	notTheCommand = "hello, what is this?"
	anAddress     = "https://remotedesktop.google.com/headless"
	withoutCode   = `DISPLAY= /opt/google/chrome-remote-desktop/start-host --redirect-url="` + fleet.RedirectURL + `" --name=$(hostname)`
)

// problem is what the grammar says of a wrong command.
func problem(command string) string {
	_, err := fleet.ParseCommand(command)
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok {
		panic("nothing is wrong with " + command)
	}
	return e.Message
}

// hostname and pin are what the page of a seat shows.
func (p *page) hostname() string {
	p.t.Helper()
	return eval[string](p, definition("Name of your VM")+".innerText.trim().split(/\\s/)[0]")
}

func (p *page) pin() string {
	p.t.Helper()
	return eval[string](p, definition("PIN")+`.innerText.replace(/\D/g, '')`)
}

// holds fails unless the page shows the seat that the database has.
func (p *page) holds(s *site, hostname string) {
	p.t.Helper()
	if got := p.hostname(); got != hostname {
		p.t.Errorf("the page shows the VM %s, it is %s", got, hostname)
	}
	if got, want := p.pin(), s.pin(hostname); got != want {
		p.t.Errorf("the page shows the PIN %s, it is %s", got, want)
	}
}

// The whole way, on a server without certificate: there, browsers keep the
// modern clipboard from pages.
func fromStartToReady(t *testing.T, c *chromium) {
	s := newSite(t, c, nil)
	s.machine("lab-1")
	ada := s.person()
	ada.base = plain(s.URL)

	p := ada.open("/")
	p.heading("Get your virtual machine")
	p.sees("1 VM is free", "A VM is free for you.")
	p.mark()
	s.Register("lab-2", "lab-3")
	p.sees("3 VMs are free")

	for _, paste := range []struct{ text, answer string }{
		{notTheCommand, problem(notTheCommand)},
		{anAddress, problem(anAddress)},
		{withoutCode, problem(withoutCode)},
		{s.code(""), "That looks right."},
		{s.command(""), "That looks right."},
	} {
		p.fill(commandField, paste.text)
		p.sees(paste.answer)
	}
	p.fill(emailField, "ada@example.org")
	p.stillMarked()
	p.click("button", submit)
	p.at("/seat")
	p.heading("Your VM gets your command")
	p.holds(s, p.hostname())
	s.eventually(p.hostname(), "to be Ada's", func(v fleet.VM) bool { return v.Email == "ada@example.org" })

	// Its agent is away, and then comes back.
	p.mark()
	p.heading("Your VM is not answering right now")
	token := fleet.NewToken()
	if err := s.Store.AddToken(t.Context(), fleet.Actor{Kind: "admin"}, p.hostname(), fleet.HashToken(token)); err != nil {
		t.Fatal(err)
	}
	m := s.machineWith(p.hostname(), token)
	m.start()
	p.heading("Your VM is ready")
	p.stillMarked()
	m.opens(p.pin())
}

func sameSeat(t *testing.T, c *chromium) {
	s := newSite(t, c, nil)
	m := s.machine("lab-1")
	m.closeGate()
	ada := s.person()
	ada.base = plain(s.URL)
	p := ada.open("/")
	p.asks("ada@example.org", s.command(""))

	p.at("/seat")
	p.heading("Your VM gets your command")
	p.holds(s, "lab-1")
	p.mark()
	m.start()
	p.heading("Your VM is being set up")
	m.letThrough()
	p.heading("Your VM is ready")
	p.stillMarked()
	p.holds(s, "lab-1")
	m.opens(p.pin())
	if got := p.title(); !strings.HasPrefix(got, "Ready: lab-1") {
		t.Errorf("the title is %q", got)
	}
	p.with("link", "Open Google’s access page (opens in a new tab)", func(ctx context.Context, t *chromedp.Target, o object) error {
		address, err := callOn[string](ctx, t, o, "function() { return this.href }")
		if err == nil && address != "https://remotedesktop.google.com/access" {
			err = fmt.Errorf("it leads to %s", address)
		}
		return err
	})

	// The PIN in the clipboard, without the clipboard of modern browsers.
	pin := p.pin()
	p.copyOf("PIN")
	ada.mayReadClipboard()
	ada.base = s.URL // only there a page may read it
	reader := ada.open("/")
	reader.until("the PIN in the clipboard", fmt.Sprintf("navigator.clipboard.readText().then(text => text === %q)", pin))
	reader.close()
	ada.base = plain(s.URL)

	p.reload()
	p.heading("Your VM is ready")
	p.holds(s, "lab-1")

	p.back()
	p.at("/")
	p.sees("You already have a VM: lab-1.")
	p.click("link", "Open my VM")
	p.at("/seat")
	p.holds(s, "lab-1")

	second := ada.open("/seat")
	second.holds(s, "lab-1")
	p.close()
	second.close()

	// The laptop was closed: no tab is left, only the cookie.
	later := ada.open("/")
	later.sees("You already have a VM: lab-1.")
	later.click("link", "Open my VM")
	later.heading("Your VM is ready")
	later.holds(s, "lab-1")

	// Whoever fills in the form once more gets the same seat, with the new command.
	later.visit("/")
	later.asks("Ada@Example.org ", s.command(""))
	later.at("/seat")
	later.heading("Your VM is being set up")
	m.letThrough()
	later.heading("Your VM is ready")
	later.holds(s, "lab-1")
	if later.pin() != pin {
		t.Errorf("the PIN changed from %s to %s", pin, later.pin())
	}
}

func serverRestarts(t *testing.T, c *chromium) {
	s := newSite(t, c, nil)
	m := s.machine("lab-1")
	m.closeGate()
	m.start()
	p := s.person().open("/")
	p.expect("ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|sseError|^console: .*Event|status of 503")
	watcher := s.person().open("/")
	watcher.expect("ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|sseError|^console: .*Event|status of 503")
	watcher.sees("1 VM is free")
	watcher.mark()
	p.asks("ada@example.org", s.command(""))
	p.at("/seat")
	p.heading("Your VM is being set up")
	watcher.sees("0 VMs are free")
	p.mark()

	s.Stop()
	m.letThrough() // the VM is ready while nobody can be told
	again := testkit.Serve(t, testkit.ServeOptions{DatabaseURL: s.DatabaseURL, Configure: func(cfg *config.Config) {
		cfg.Listen = strings.TrimPrefix(s.URL, "http://")
	}})
	if again.URL != s.URL {
		t.Fatalf("the address is now %s", again.URL)
	}
	p.heading("Your VM is ready")
	p.stillMarked()
	p.holds(s, "lab-1")
	again.Register("lab-2")
	watcher.sees("1 VM is free")
	watcher.stillMarked()
}

func failedCode(t *testing.T, c *chromium) {
	s := newSite(t, c, nil)
	s.running("lab-1", "lab-2")
	p := s.person().open("/")
	p.fill(emailField, "ada@example.org")
	p.fill(commandField, notTheCommand)
	p.submitUnchecked()
	p.sees("Almost there. Please check:")
	expired := s.command("expired")
	p.asks("ada@example.org", expired)
	p.at("/seat")
	p.heading("That did not work")
	p.sees(crd.ReasonCode, "The VM is still yours.")
	if got := p.title(); !strings.HasPrefix(got, "Needs you: ") {
		t.Errorf("the title is %q", got)
	}
	hostname, pin := p.hostname(), p.pin()

	// The same code again cannot work, and the page says so before it is sent.
	p.fill(freshField, expired)
	p.sees("This code was used here before")
	p.click("button", "Send the fresh command")
	p.sees("This code was used here before")
	if got := p.value(freshField); got != expired {
		t.Errorf("what was typed is gone: %q", got)
	}

	p.fill(freshField, s.command(""))
	p.sees("That looks right.")
	p.click("button", "Send the fresh command")
	p.heading("Your VM is ready")
	if p.hostname() != hostname || p.pin() != pin {
		t.Errorf("it was %s with %s, it is %s with %s", hostname, pin, p.hostname(), p.pin())
	}
	p.holds(s, hostname)
	if n := s.seated("ada@example.org"); n != 1 {
		t.Errorf("Ada holds %d VMs", n)
	}

	// Back, through pages that answered forms: the browser must not ask whether to
	// send them again.
	for range 3 {
		p.back()
	}
	p.at("/")
	p.sees("You already have a VM: " + hostname + ".")
}

func pressedTwice(t *testing.T, c *chromium) {
	s := newSite(t, c, nil)
	s.running("lab-1", "lab-2", "lab-3")
	p := s.person().open("/")
	p.fill(emailField, "ada@example.org")
	p.fill(commandField, s.command(""))
	p.doubleClick("button", submit)
	p.at("/seat")
	p.heading("Your VM is ready")
	p.holds(s, p.hostname())
	if n := s.seated("ada@example.org"); n != 1 {
		t.Errorf("Ada holds %d VMs", n)
	}

	// Sent by two tabs at the same instant, each with a code of its own.
	ben := s.person()
	one, two := ben.open("/"), ben.open("/")
	for _, tab := range []*page{one, two} {
		tab.fill(emailField, "ben@example.org")
		tab.fill(commandField, s.command(""))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		one.click("button", submit)
	}()
	two.click("button", submit)
	<-done
	for _, tab := range []*page{one, two} {
		tab.at("/seat")
		tab.heading("Your VM is ready")
	}
	if one.hostname() != two.hostname() || s.seated("ben@example.org") != 1 {
		t.Errorf("Ben holds %s and %s", one.hostname(), two.hostname())
	}
}

// The site has a certificate, and somebody opens it without: there, browsers drop
// its cookie.
func keepsNoCookie(t *testing.T, c *chromium) {
	s := newSite(t, c, func(cfg *config.Config) { cfg.Server.PublicURL = "https://lab.example.org" })
	s.machine("lab-1")
	ada := s.person()
	ada.base = plain(s.URL)
	p := ada.open("/")
	command := s.command("")
	p.asks("ada@example.org", command)
	for range 2 {
		p.sees("Your browser did not keep our cookie", "Open https://lab.example.org/ instead")
		if p.lastStatus() != 400 || p.value(emailField) != "ada@example.org" || p.value(commandField) != command {
			t.Errorf("status %d, and the form holds %q, %q", p.lastStatus(), p.value(emailField), p.value(commandField))
		}
		p.mark()
		p.click("button", submit)
		p.until("the answer", "!window.marked && document.readyState === 'complete'")
	}
	p.everybody("home without cookie")
	if vm := s.vm("lab-1"); !vm.Free() {
		t.Errorf("the VM is given away: %+v", vm)
	}

	// By its right address it is another server to the browser, with a cookie.
	ada.base = s.URL
	p.visit("/")
	p.asks("ada@example.org", command)
	p.at("/seat")
	p.holds(s, "lab-1")
}

func sharedComputer(t *testing.T, c *chromium) {
	s := newSite(t, c, nil)
	s.running("lab-1", "lab-2")
	p := s.person().open("/")
	p.asks("ada@example.org", s.command(""))
	p.at("/seat")
	p.heading("Your VM is ready")
	adas := p.hostname()

	p.visit("/")
	p.asks("ben@example.org", s.command(""))
	p.heading("This browser already has a VM")
	p.sees(adas, "a…@example.org", "Nothing was changed.")
	if n := s.seated("ben@example.org"); n != 0 {
		t.Errorf("Ben holds %d VMs", n)
	}
	if strings.Contains(p.html(), "ada@example.org") || strings.Contains(p.html(), s.pin(adas)) {
		t.Error("Ben can read Ada's address or PIN")
	}
	p.click("button", "Forget it on this device")
	p.at("/")
	p.seesNot("You already have a VM")
	p.asks("ben@example.org", s.command(""))
	p.at("/seat")
	p.heading("Your VM is ready")
	p.holds(s, p.hostname())
	if p.hostname() == adas {
		t.Error("Ben got Ada's VM")
	}
	if s.vm(adas).Email != "ada@example.org" {
		t.Error("Ada lost her VM")
	}
	p.visit("/")
	p.sees("You already have a VM: " + s.otherThan(adas))
}

// otherThan is the seated VM that is not the one named.
func (s *site) otherThan(hostname string) string {
	for _, name := range []string{"lab-1", "lab-2"} {
		if name != hostname && s.vm(name).Seat.Held() {
			return name
		}
	}
	return ""
}
