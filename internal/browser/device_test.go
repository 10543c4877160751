package browser_test

import (
	"testing"
	"time"

	"lablink/internal/config"
)

func anotherDevice(t *testing.T, c *chromium) {
	s := newSite(t, c, func(cfg *config.Config) {
		cfg.Limits.PinFailures, cfg.Limits.PinWindow = 3, time.Hour
	})
	s.running("lab-1", "lab-2")
	laptop := s.person().open("/")
	laptop.asks("ada@example.org", s.command(""))
	laptop.at("/seat")
	laptop.heading("Your VM is ready")
	hostname, pin := laptop.hostname(), laptop.pin()

	phone := s.person().open("/")
	phone.asks("ADA@example.org", s.command(""))
	phone.heading("This e-mail address already has a VM")
	if n := s.seated("ada@example.org"); n != 1 {
		t.Errorf("Ada holds %d VMs", n)
	}
	phone.fill("PIN", wrong(pin))
	phone.click("button", "Open my VM")
	phone.sees("No VM fits this e-mail address and PIN.")
	phone.fill("PIN", pin[:3]+" "+pin[3:]) // as the page shows it
	phone.click("button", "Open my VM")
	phone.at("/seat")
	phone.heading("Your VM is ready")
	phone.holds(s, hostname)

	// Somebody who knows the address only.
	stranger := s.person().open("/")
	stranger.click("link", "Open it here with your e-mail and PIN")
	stranger.heading("Open your VM on this device")
	stranger.fill(emailField, "ada@example.org")
	for range 3 {
		stranger.fill("PIN", wrong(pin))
		stranger.click("button", "Open my VM")
		stranger.sees("No VM fits this e-mail address and PIN.")
		stranger.until("an empty field", "document.readyState === 'complete' && document.querySelector('#pin').value === ''")
	}
	for _, guess := range []string{wrong(pin), pin} {
		stranger.fill("PIN", guess)
		stranger.click("button", "Open my VM")
		stranger.sees("Too many wrong attempts.")
		stranger.until("an empty field", "document.readyState === 'complete' && document.querySelector('#pin').value === ''")
	}
	if stranger.lastStatus() != 429 {
		t.Errorf("the answer has status %d", stranger.lastStatus())
	}
	stranger.visit("/seat")
	stranger.heading("This browser has no VM yet")

	laptop.reload()
	laptop.holds(s, hostname)
}

// wrong is a PIN that differs in the last digit.
func wrong(pin string) string {
	last := pin[len(pin)-1]
	return pin[:len(pin)-1] + string('0'+(last-'0'+1)%10)
}
