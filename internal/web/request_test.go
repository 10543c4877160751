package web_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"lablink/internal/config"
	"lablink/internal/fleet"
)

func TestRequestVM(t *testing.T) {
	t.Parallel()

	t.Run("gives a VM and leads to its page", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.register(true, "lab-1")
		page := s.browser().seated("Ada@example.org", code(1))
		page.wantText(".hostname", "lab-1").wantText(".forget strong", "Ada@example.org").wantNone(code(1))
		if vm := s.vm("lab-1"); vm.Email != "Ada@example.org" || vm.Seat != fleet.SeatRequested {
			t.Errorf("%+v", vm)
		}
	})

	t.Run("names everything that is wrong at once, and keeps what was typed", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.register(true, "lab-1")
		page := s.visitor().post("/api/request_vm", "email", "ada", "crd_command", "<b>ls -l</b>").want(http.StatusBadRequest)
		page.wantText("#email-error", "does not look like an e-mail address").wantText("#command-error", "not the command")
		page.wantCount(`#email[aria-invalid][aria-describedby="email-error"][value="ada"][autofocus]`, 1)
		page.wantCount(`#crd_command[aria-invalid][aria-describedby="command-check"]`, 1).wantCount("[autofocus]", 1)
		page.wantText("#crd_command", "<b>ls -l</b>").wantCount("#summary a", 2)

		page = s.visitor().post("/api/request_vm", "email", "ada@example.org").want(http.StatusBadRequest)
		page.wantCount("#crd_command[autofocus]", 1).wantCount("#summary a", 1).wantText("#command-error", "Paste the command")
		if vm := s.vm("lab-1"); vm.Seat != fleet.SeatNone {
			t.Errorf("%+v", vm)
		}
	})

	t.Run("refuses a code that was used", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.register(true, "lab-1", "lab-2")
		s.browser().seated("ada@example.org", code(1))
		s.visitor().request("bob@example.org", code(1)).want(http.StatusBadRequest).wantText("#command-error", "used here before")
	})

	t.Run("says so when all are taken, and keeps what was typed", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.register(true, "lab-1")
		s.browser().seated("ada@example.org", code(1))
		page := s.visitor().request("bob@example.org", code(2)).want(http.StatusServiceUnavailable)
		page.wantText("#notice", "The only VM is taken").wantText("#summary", "none was free").wantCount(`#email[value="bob@example.org"]`, 1)
		page.wantText("#crd_command", code(2)).wantCount("#gate button[disabled]", 1).wantCount("#gate noscript", 1).wantCount(`[sse-connect="/events"]`, 1)
		if page.header.Get("Retry-After") == "" || page.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v", page.header)
		}
	})

	t.Run("limits each address", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, func(c *config.Config) { c.Limits.RequestVMPerMinute, c.Limits.RequestVMBurst = 1, 1 })
		s.register(true, "lab-1")
		b := s.visitor()
		b.post("/api/request_vm").want(http.StatusBadRequest)
		page := b.request("ada@example.org", code(1)).want(http.StatusTooManyRequests)
		page.wantText("#summary", "wait a few seconds").wantCount(`#email[value="ada@example.org"]`, 1)
		if page.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		b.accept = "application/json"
		b.request("ada@example.org", code(1)).want(http.StatusTooManyRequests)
	})

	t.Run("refuses a body without end", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.visitor().post("/api/request_vm", "email", strings.Repeat("x", 100_000)).want(http.StatusRequestEntityTooLarge)
	})

	t.Run("uses the configured PIN", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, func(c *config.Config) { c.CRD.PIN = "987654" })
		s.register(true, "lab-1")
		s.browser().seated("ada@example.org", code(1)).wantText(".pin", "987654").wantCount(`[data-copy="987654"]`, 1)
	})
}

// Whoever keeps no cookie would get a VM and never see it, nor its PIN.
func TestRequestVMWithoutCookie(t *testing.T) {
	t.Parallel()
	const secure = "https://lab.example.org"
	ask := func(s *site, b *browser, origin string) *answer {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.server.URL+"/api/request_vm",
			strings.NewReader(url.Values{"email": {"ada@example.org"}, "crd_command": {code(1)}}.Encode()))
		s.must(err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", origin)
		return b.send(r)
	}

	t.Run("because it was too old", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.register(true, "lab-1")
		b := s.browser()
		page := b.request("ada@example.org", code(1)).want(http.StatusBadRequest)
		page.wantText("#summary", "did not keep our cookie").wantText("#summary", "Allow cookies").wantCount("#summary a", 0)
		page.wantCount(`#email[value="ada@example.org"]`, 1).wantText("#crd_command", code(1)).wantCount("#gate button[disabled]", 0)
		if vm := s.vm("lab-1"); vm.Seat != fleet.SeatNone {
			t.Errorf("%+v", vm)
		}
		b.request("ada@example.org", code(1)).wantRedirect("/seat")
		b.get("/seat").want(http.StatusOK)
	})

	t.Run("because the site was opened without https", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, func(c *config.Config) { c.Server.PublicURL = secure })
		s.register(true, "lab-1")
		b := s.browser()
		b.client.Jar = nil // Go's jar takes a loopback address for safe
		for range 2 {
			page := ask(s, b, s.server.URL).want(http.StatusBadRequest)
			page.wantText("#summary", "only if this site is opened by https").wantCount(`#summary a[href="`+secure+`/"]`, 1)
		}
		ask(s, b, secure).want(http.StatusBadRequest).wantText("#summary", "Allow cookies").wantCount("#summary a", 0)
		if vm := s.vm("lab-1"); vm.Seat != fleet.SeatNone {
			t.Errorf("%+v", vm)
		}
	})

	t.Run("is nothing to programs", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.register(true, "lab-1")
		b := s.browser()
		b.accept = "application/json"
		b.request("ada@example.org", code(1)).want(http.StatusOK)
		s.register(true, "lab-2")
		curl := s.browser()
		curl.accept = "*/*"
		curl.request("bob@example.org", code(2)).wantRedirect("/seat")
		curl.get("/seat").want(http.StatusOK).wantText(".hostname", "lab-2")
	})

	t.Run("brings no seat from another device either", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.register(true, "lab-1")
		pin := s.browser().seated("ada@example.org", code(1)).text(".pin")
		b := s.browser()
		b.post("/seat/find", "email", "ada@example.org", "pin", pin).want(http.StatusBadRequest).
			wantText("[role=alert]", "did not keep our cookie").wantCount(`#email[value="ada@example.org"]`, 1)
		b.post("/seat/find", "email", "ada@example.org", "pin", pin).wantRedirect("/seat")
	})
}

func TestVacancyIsReadOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.register(true, "lab-1")
	reads := s.web.CountVacancies()
	b, late := s.visitor(), s.visitor()
	if n := reads.Load(); n != 1 {
		t.Errorf("%d reads for two start pages in a moment, want 1", n)
	}
	b.request("ada@example.org", code(1)).wantRedirect("/seat")
	late.request("bob@example.org", code(2)).want(http.StatusServiceUnavailable).wantText("#notice", "The only VM is taken").
		wantCount("#gate button[disabled]", 1)
	if n := reads.Load(); n != 2 {
		t.Errorf("%d reads, want one more for the refusal, which must not show what was", n)
	}
}

func TestRequestVMAgain(t *testing.T) {
	t.Parallel()

	t.Run("the same person keeps the VM, with the new code", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.register(true, "lab-1", "lab-2")
		b := s.browser()
		pin := b.seated("ada@example.org", code(1)).text(".pin")
		s.report("lab-1", fleet.EventConnect, "")
		b.request(" ADA@Example.org ", code(1)).wantRedirect("/seat")
		if vm := s.vm("lab-1"); vm.Seat != fleet.SeatConnected {
			t.Errorf("the same code again changed the seat to %s", vm.Seat)
		}
		b.request("ADA@example.org", code(2)).wantRedirect("/seat")
		if got := b.get("/seat").text(".pin"); got != pin {
			t.Errorf("the PIN changed from %s to %s", pin, got)
		}
		if one, two := s.vm("lab-1"), s.vm("lab-2"); one.Seat != fleet.SeatRequested || two.Seat != fleet.SeatNone {
			t.Errorf("%s and %s", one.Seat, two.Seat)
		}
	})

	t.Run("another person at the same browser is asked who it is", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.register(true, "lab-1", "lab-2")
		b := s.browser()
		pin := strings.ReplaceAll(b.seated("ada@example.org", code(1)).text(".pin"), " ", "")
		page := b.request("bob@example.org", code(2)).want(http.StatusConflict)
		page.wantText("main", "a…@example.org").wantText("main", "lab-1").wantNone("ada@example.org", pin, code(2))
		page.wantCount(`a[href="/seat"]`, 1).wantCount(`form[action="/seat/forget"] button`, 1)
		if vm := s.vm("lab-2"); vm.Seat != fleet.SeatNone {
			t.Error("a second VM was given away")
		}
		b.post("/seat/forget").wantRedirect("/")
		b.get("/seat").want(http.StatusNotFound)
		b.seated("bob@example.org", code(2)).wantText(".hostname", "lab-2")
		if vm := s.vm("lab-1"); vm.Email != "ada@example.org" {
			t.Errorf("%+v", vm)
		}
	})

	t.Run("a stranger with somebody's e-mail gets neither seat nor PIN", func(t *testing.T) {
		t.Parallel()
		for _, full := range []bool{false, true} {
			s := newSite(t)
			s.register(true, "lab-1")
			if !full {
				s.register(true, "lab-2")
			}
			pin := strings.ReplaceAll(s.browser().seated("ada@example.org", code(1)).text(".pin"), " ", "")
			stranger := s.browser()
			stranger.get("/")
			page := stranger.request("ADA@example.org", code(2)).want(http.StatusConflict)
			page.wantNone(pin, "lab-1").wantCount(`form[action="/seat/find"] input[name="pin"]`, 1)
			page.wantCount(`form[action="/seat/find"] input[name="email"][value="ADA@example.org"]`, 1)
			stranger.get("/seat").want(http.StatusNotFound).wantNone(pin, "lab-1")
			if r := stranger.get("/seat/events"); r.status == http.StatusOK && strings.Contains(r.body, "lab-1") {
				t.Error("the stream shows the seat")
			}
			stranger.accept = "application/json"
			stranger.request("ada@example.org", code(3)).want(http.StatusConflict).wantNone(pin, "lab-1")
			if vm := s.vm("lab-1"); vm.Seat != fleet.SeatRequested || vm.Email != "ada@example.org" {
				t.Errorf("%+v", vm)
			}
		}
	})

	t.Run("after the seat has ended a new one is given", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.register(true, "lab-1", "lab-2")
		b := s.browser()
		b.seated("ada@example.org", code(1))
		s.must(s.store.Release(t.Context(), tester, "lab-1"))
		b.seated("ada@example.org", code(2)).wantText(".hostname", "lab-2")
	})
}

func TestDoubleClickGetsOneSeat(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var names []string
	for n := range 20 {
		names = append(names, fmt.Sprintf("lab-%d", n))
	}
	s.register(true, names...)
	for round := range 10 {
		b := s.browser()
		b.get("/")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { b.request(fmt.Sprintf("p%d@example.org", round), code(round)).wantRedirect("/seat") })
		}
		wg.Wait()
		b.get("/seat").want(http.StatusOK)
	}
	if free, err := s.store.FreeCount(t.Context()); free != 10 || err != nil {
		t.Errorf("%d of 20 are free after 10 double clicks (%v)", free, err)
	}
}

func TestCrowdGetsDistinctVMs(t *testing.T) {
	t.Parallel()
	const machines, people = 200, 230
	s := newSite(t)
	var names []string
	for n := range machines {
		names = append(names, fmt.Sprintf("lab-%d", n))
	}
	s.register(false, names...)
	var mu sync.Mutex
	owners, full := map[string]int{}, 0
	var wg sync.WaitGroup
	for n := range people {
		wg.Go(func() {
			b := s.browser()
			b.get("/")
			switch a := b.request(fmt.Sprintf("p%d@example.org", n), code(n)); a.status {
			case http.StatusSeeOther:
				hostname := b.get("/seat").text(".hostname")
				mu.Lock()
				owners[hostname]++
				mu.Unlock()
			case http.StatusServiceUnavailable:
				mu.Lock()
				full++
				mu.Unlock()
			default:
				t.Errorf("status %d", a.status)
			}
		})
	}
	wg.Wait()
	if len(owners) != machines || full != people-machines {
		t.Errorf("%d VMs were given away, %d people were told that all are taken", len(owners), full)
	}
	for hostname, n := range owners {
		if n != 1 {
			t.Errorf("%s has %d owners", hostname, n)
		}
	}
}

func TestRequestVMForPrograms(t *testing.T) {
	t.Parallel()
	type reply struct {
		Hostname string `json:"hostname"`
		PIN      string `json:"pin"`
		State    string `json:"state"`
		URL      string `json:"url"`
		Error    string `json:"error"`
		Field    string `json:"field"`
	}
	decode := func(t *testing.T, a *answer) (r reply) {
		t.Helper()
		if a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%v", a.header)
		}
		if err := json.Unmarshal([]byte(a.body), &r); err != nil {
			t.Errorf("%v in %s", err, a.body)
		}
		return r
	}
	s := newSite(t, func(c *config.Config) { c.Server.PublicURL = "http://lab.example.org" })
	s.register(true, "lab-1")
	b := s.browser()
	b.accept = "application/json"
	body := func(email, command string) *bytes.Reader {
		data, err := json.Marshal(map[string]string{"email": email, "crd_command": command, "pin": "1"})
		s.must(err)
		return bytes.NewReader(data)
	}
	const path, kind = "/api/request_vm", "application/json; charset=utf-8"

	r := decode(t, b.do(http.MethodPost, path, kind, body("ada", fleet.CommandFor(code(1)))).want(http.StatusBadRequest))
	if r.Field != "email" || r.Error == "" {
		t.Errorf("%+v", r)
	}
	r = decode(t, b.do(http.MethodPost, path, kind, body("ada@example.org", "ls -l")).want(http.StatusBadRequest))
	if r.Field != "crd_command" || r.Error == "" {
		t.Errorf("%+v", r)
	}
	decode(t, b.do(http.MethodPost, path, kind, strings.NewReader("{")).want(http.StatusBadRequest))

	a := b.do(http.MethodPost, path, kind, body("ada@example.org", fleet.CommandFor(code(1)))).want(http.StatusOK)
	r = decode(t, a)
	if r.Hostname != "lab-1" || len(r.PIN) != 6 || r.State != "requested" || r.URL != "http://lab.example.org/seat" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%+v, %v", r, a.header)
	}
	again := decode(t, b.request("ada@example.org", code(1)).want(http.StatusOK))
	if again.Hostname != r.Hostname || again.PIN != r.PIN {
		t.Errorf("%+v, then %+v", r, again)
	}
	// The cookie that came with the answer opens the page.
	b.accept = ""
	b.get("/seat").want(http.StatusOK).wantText(".hostname", "lab-1")

	other := s.browser()
	other.accept = "application/json"
	if r := decode(t, other.request("bob@example.org", code(2)).want(http.StatusServiceUnavailable)); r.Error != "The only VM is taken." {
		t.Errorf("%+v", r)
	}
	b.accept = "application/json"
	if r := decode(t, b.request("bob@example.org", code(2)).want(http.StatusConflict)); r.Field != "email" {
		t.Errorf("%+v", r)
	}
}

func TestRequestVMAsMultipart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.register(true, "lab-1")
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	_ = form.WriteField("email", "ada@example.org")
	_ = form.WriteField("crd_command", fleet.CommandFor(code(1)))
	_ = form.Close()
	s.visitor().do(http.MethodPost, "/api/request_vm", form.FormDataContentType(), &body).wantRedirect("/seat")
}
