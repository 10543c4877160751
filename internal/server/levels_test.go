package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"lablink/internal/fleet"
	"lablink/internal/testkit"
	"lablink/internal/wire"
)

// Reports are levels: repeating one is harmless, and mends one that was lost.
// What a client reports no more stays as it is.
func TestReports_RepeatedLevels(t *testing.T) {
	t.Parallel()
	a := serveOpen(t)
	wantStatus(t, send(t, a, "cloud_init_status", "vm-1", "running"), http.StatusOK)
	for _, health := range []string{"Healthy", "Healthy", "Unhealthy", "Healthy"} {
		wantStatus(t, send(t, a, "check_gpu", "vm-1", health), http.StatusOK)
	}
	request(t, a, 1)
	for _, use := range []string{"true", "true", "false", "true"} {
		wantStatus(t, send(t, a, "update_inuse_status", "vm-1", use), http.StatusOK)
	}
	v, err := a.Store.VM(t.Context(), "vm-1")
	if err != nil || v.Health != fleet.Healthy || !v.InUse || v.Seat != fleet.SeatRequested {
		t.Errorf("%+v, %v", v, err)
	}
}

// A VM whose container died, as with on_error fail, says so, and is given to nobody.
func TestReports_BrokenVMIsNotGiven(t *testing.T) {
	t.Parallel()
	a := serveOpen(t)
	for _, status := range []string{"running", "error"} {
		wantStatus(t, send(t, a, "cloud_init_status", "vm-1", status), http.StatusOK)
	}
	wantStatus(t, send(t, a, "cloud_init_status", "vm-2", "running"), http.StatusOK)
	wantStatus(t, send(t, a, "check_gpu", "vm-2", "Unhealthy"), http.StatusOK)
	ask := func() testkit.Response {
		return a.Do(t.Context(), testkit.Request{Path: "/api/request_vm", JSON: map[string]string{"email": "p1@example.org", "crd_command": command(1)}})
	}
	wantStatus(t, ask(), http.StatusServiceUnavailable)
	wantStatus(t, send(t, a, "check_gpu", "vm-2", "N/A"), http.StatusOK)
	if r := ask(); r.Status != http.StatusOK || !strings.Contains(r.Body, "vm-2") {
		t.Errorf("after it recovered: %d %s", r.Status, r.Body)
	}
}

// browser keeps the cookie, as one does.
type browser struct {
	t      *testing.T
	a      *testkit.Allocator
	cookie string
}

func (b *browser) ask(email, code string) testkit.Response {
	b.t.Helper()
	r := b.a.Do(b.t.Context(), testkit.Request{Path: "/api/request_vm", Form: url.Values{"email": {email}, "crd_command": {code}}.Encode(),
		Header: map[string]string{"Accept": asJSON, "Cookie": b.cookie}})
	if set := r.Header.Get("Set-Cookie"); set != "" {
		b.cookie, _, _ = strings.Cut(set, ";")
	}
	return r
}

// The same person asking again costs no second VM, and sees the same one; a
// stranger who types their address sees nothing.
func TestRequest_SamePersonAgain(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	a.Register("vm-1", "vm-2", "vm-3")
	ada := &browser{t: t, a: a}
	first := ada.ask("ada@example.org", "4/0first")
	wantStatus(t, first, http.StatusOK)
	for _, again := range [][2]string{{"ada@example.org", "4/0first"}, {" ADA@Example.org ", "4/0second"}} {
		r := ada.ask(again[0], again[1])
		var was, is struct{ Hostname, PIN string }
		first.JSON(t, &was)
		r.JSON(t, &is)
		if is != was {
			t.Errorf("asking again as %q: %d %s, was %s", again[0], r.Status, r.Body, first.Body)
		}
	}
	stranger := &browser{t: t, a: a}
	if r := stranger.ask("Ada@example.org", "4/0third"); r.Status != http.StatusConflict || strings.Contains(r.Body, "vm-") || strings.Contains(r.Body, "pin\"") {
		t.Errorf("a stranger with the same address: %d %s", r.Status, r.Body)
	}
	if r := stranger.ask("bob@example.org", "4/0first"); r.Status != http.StatusBadRequest || !strings.Contains(r.Body, "used here before") {
		t.Errorf("a code that was used: %d %s", r.Status, r.Body)
	}
	if r := stranger.ask("bob@example.org", "4/0"+strings.Repeat("a", 1500)); r.Status != http.StatusBadRequest || !strings.Contains(r.Body, "too long") {
		t.Errorf("a command that is too long: %d %s", r.Status, r.Body)
	}
	if n, err := a.Store.FreeCount(t.Context()); err != nil || n != 2 {
		t.Errorf("%d VMs are free, %v; want 2", n, err)
	}
}

// A command never reaches a shell as more than it is.
func TestRequest_NoInjection(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	a.Register("vm-1")
	for n, code := range []string{
		"--code=x;reboot", "--code=x;cmd${IFS}arg", "--code=`reboot`", "--code=x --name=$(reboot)", "--code=x\nreboot", "--code=x && reboot",
		"start-host --code=x | sh", "--codename=x", "--code", "--code=", "--code -x", "--cod=x", "--code=x --code=y",
	} {
		b := &browser{t: t, a: a}
		if r := b.ask(fmt.Sprintf("p%d@example.org", n), code); r.Status != http.StatusBadRequest || !strings.Contains(r.Body, `"field":"crd_command"`) {
			t.Errorf("%q: %d %s", code, r.Status, r.Body)
		}
	}
	if n, err := a.Store.FreeCount(t.Context()); err != nil || n != 1 {
		t.Errorf("%d VMs are free, %v", n, err)
	}
}

// Through a busy run, with everything that can go wrong, no secret is logged.
func TestLog_HoldsNoSecrets(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	tokens := a.Register("vm-1", "vm-2", "vm-3")
	secrets := []string{testkit.AdminPassword, "secret-code", "secret-guess", "secret-password"}
	for hostname, token := range tokens {
		secrets = append(secrets, token)
		answer := poll(t.Context(), a, hostname, token)
		waits(t, a, hostname)
		var n int
		if _, err := fmt.Sscanf(hostname, "vm-%d", &n); err != nil {
			t.Fatal(err)
		}
		_, pin := request(t, a, n)
		secrets = append(secrets, pin)
		reply := wantDelivery(t, answer, n, pin)
		acknowledge(t, a, hostname, token, reply.Delivery, wire.ResultFailed, "no luck")
		a.Do(t.Context(), testkit.Request{Method: http.MethodPost, Path: "/admin/instances/" + hostname + "/pin", Admin: true})
		a.Do(t.Context(), testkit.Request{Path: "/seat/find", Form: fmt.Sprintf("email=p%d@example.org&pin=%s", n, pin)})
		a.Do(t.Context(), testkit.Request{Path: "/seat/find", Form: fmt.Sprintf("email=p%d@example.org&pin=secret-guess", n)})
	}
	b := &browser{t: t, a: a}
	b.ask("p9@example.org", command(9))                 // full
	b.ask("p8@example.org", "--code=secret-code;rm")    // refused
	b.ask("p8@example.org", "--code secret-code-1 --x") // refused
	secrets = append(secrets, strings.TrimPrefix(b.cookie, "lablink_browser="))
	for _, r := range []testkit.Request{
		{Path: wire.PathStartup, Token: "secret-guess", JSON: map[string]string{"hostname": "vm-1"}},
		{Path: wire.PathCRDResult, Token: tokens["vm-1"], JSON: wire.ResultRequest{Hostname: "vm-1", Delivery: 1, Result: "secret-guess", Reason: "secret-guess"}},
		{Path: "/api/request_vm", Form: `{"email": "a@b.c", "crd_command": "secret-code`, Header: map[string]string{"Content-Type": asJSON}},
		{Path: "/api/request_vm", Form: "email=a@b.c&crd_command=secret-code%zz"},
		{Path: "/check-command", Form: "crd_command=" + url.QueryEscape(command(7))},
		{Path: "/api/request_vm?crd_command=secret-code", Form: ""},
		{Method: http.MethodGet, Path: "/?code=secret-code&token=" + tokens["vm-1"]},
		{Method: http.MethodGet, Path: "/admin", Header: map[string]string{"Authorization": "Basic YWRtaW46c2VjcmV0LXBhc3N3b3Jk"}},
	} {
		a.Do(t.Context(), r)
	}
	a.Stop()
	log := a.Log.String()
	for _, secret := range secrets {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds the secret %q", secret)
		}
	}
	if !strings.Contains(log, "/seat/find") || !strings.Contains(log, "wrong admin log-in") {
		t.Error("the log lacks what should be there")
	}
}
