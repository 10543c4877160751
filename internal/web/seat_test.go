package web_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"lablink/internal/fleet"
)

func TestSeatPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.web.Quicken() // a VM that does not wait is called absent at once
	s.register(true, "lab-1")
	b := s.browser()
	b.get("/seat").want(http.StatusNotFound).wantText("h1", "has no VM yet").wantCount(`a[href="/seat/find"]`, 1)

	page := b.seated("ada@example.org", code(1))
	page.wantText("h1", "gets your command").wantText(".progress .now", "Sent to your VM").wantCount("[aria-current=step]", 1)
	page.wantCount("head noscript", 1)
	pin := strings.ReplaceAll(page.text(".pin"), " ", "")
	if len(pin) != 6 {
		t.Errorf("PIN %q", pin)
	}
	page.wantCount(`[data-copy="`+pin+`"]`, 1).wantCount(`[data-copy="lab-1"]`, 1).wantNone(code(1))

	s.deliver("lab-1")
	page = b.get("/seat").want(http.StatusOK).wantText("h1", "being set up").wantText(".progress .now", "Being set up")
	page.wantCount("head noscript", 1).wantCount(".progress .done", 1)

	s.report("lab-1", fleet.EventConnect, "")
	page = b.get("/seat").want(http.StatusOK).wantText("h1", "Your VM is ready").wantText("title", "Ready: lab-1").wantCount(".progress .done", 3)
	page.wantCount(`a.primary[href="https://remotedesktop.google.com/access"][target="_blank"][rel="noopener"]`, 1)
	page.wantCount("head noscript", 0).wantCount("details:not([open]) form[action='/seat/code']", 1)

	b.request("ada@example.org", code(2)).wantRedirect("/seat")
	s.report("lab-1", fleet.EventFail, "Google says <no>.")
	page = b.get("/seat").want(http.StatusOK).wantText("h1", "did not work").wantText(".reason", "Google says <no>.")
	page.wantCount(".panel form[action='/seat/code'] textarea", 1).wantText(".pin", pin[:3]).wantCount("head noscript", 0)

	b.post("/seat/code", "crd_command", code(2)).want(http.StatusBadRequest).wantText(".panel .error", "used here before").wantText(".panel textarea", code(2))
	b.post("/seat/code", "crd_command", "nonsense here").want(http.StatusBadRequest).wantText(".panel .error", "not the command")
	b.post("/seat/code", "crd_command", fleet.CommandFor(code(3))).wantRedirect("/seat")
	if vm := s.vm("lab-1"); vm.Seat != fleet.SeatRequested {
		t.Errorf("%s", vm.Seat)
	}

	vm := s.vm("lab-1")
	s.must(s.store.RetireReplica(t.Context(), 1))
	b.get("/seat").wantText("h1", "is not answering right now").wantCount("head noscript", 1)
	s.must(s.store.SetStatus(t.Context(), tester, vm.Hostname, fleet.StatusRunning))

	s.must(s.store.Release(t.Context(), tester, "lab-1"))
	b.get("/seat").want(http.StatusGone).wantText("h1", "no longer yours").wantNone(pin).wantCount(`a[href="/"].primary`, 1)
	b.post("/seat/code", "crd_command", code(4)).want(http.StatusGone)
}

// A VM that dies while it sets up must not leave its participant waiting for ever.
func TestSeatOverdue(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.web.Quicken()
	s.web.LookAgain()
	s.register(true, "lab-1")
	b := s.browser()
	b.seated("ada@example.org", code(1))
	s.deliver("lab-1")
	s.age("lab-1", 2*time.Minute)
	b.get("/seat").wantText("h1", "being set up").wantCount(".panel form", 0).wantCount("head noscript", 1)
	st := b.listen("/seat/events")
	st.next("said").wantText("span", "being set up")

	s.age("lab-1", 4*time.Minute) // nobody is notified of that
	st.next("seat").wantText("h1", "takes longer than it should").wantCount("form[action='/seat/code']", 1).wantText("title", "Takes too long: lab-1")
	st.next("said").wantText("span", "takes longer than it should")
	page := b.get("/seat").want(http.StatusOK).wantText("h1", "takes longer than it should").wantText(".panel", "Tell the organiser the name of your VM")
	page.wantCount(".panel form[action='/seat/code'] textarea", 1).wantCount("head noscript", 0).wantText("title", "Takes too long: lab-1")
	b.post("/seat/code", "crd_command", "nonsense here").want(http.StatusBadRequest).wantText(".panel .error", "not the command").wantCount("details .error", 0)

	admin := s.adminBrowser()
	admin.get("/admin/instances").wantText(".condition.bad", "being set up").wantText(".note", "Not finished after 4 minutes.")

	b.post("/seat/code", "crd_command", fleet.CommandFor(code(2))).wantRedirect("/seat")
	st.next("seat").wantText("h1", "gets your command")
	admin.get("/admin/instances").wantCount(".condition.bad", 0)
}

func TestSeatAssumed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.register(true, "lab-1")
	b := s.browser()
	b.seated("ada@example.org", code(1))
	delivery := s.deliver("lab-1")
	s.must(s.store.Assumed(t.Context(), s.vm("lab-1").ID, delivery))
	b.get("/seat").wantText("h1", "should be ready").wantCount(`a.primary[href="https://remotedesktop.google.com/access"]`, 1)
}

func TestFreshCodeForReadyVM(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.register(true, "lab-1")
	b := s.browser()
	b.seated("ada@example.org", code(1))
	s.report("lab-1", fleet.EventConnect, "")
	page := b.post("/seat/code", "crd_command", "DISPLAY= start-host").want(http.StatusBadRequest)
	page.wantCount("details[open] textarea", 1).wantText("details .error", "--code is missing").wantCount(".panel.connected", 1)
	b.post("/seat/code", "crd_command", code(2)).wantRedirect("/seat")
	if vm := s.vm("lab-1"); vm.Seat != fleet.SeatRequested {
		t.Errorf("%s", vm.Seat)
	}
	s.browser().post("/seat/code", "crd_command", code(3)).want(http.StatusNotFound)
}

func TestSeatPageFollows(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.web.Quicken()
	s.register(true, "lab-1")
	b := s.browser()
	version := b.seated("ada@example.org", code(1)).attr(".panel", "data-version")
	st := b.listen("/seat/events")
	first := st.next("seat")
	if got := first.attr(".panel", "data-version"); got != version || version == "" {
		t.Errorf("the stream begins with version %q, the page has %q: it would be swapped for nothing", got, version)
	}

	s.deliver("lab-1")
	s.feed.Publish("lab-1")
	st.next("seat").wantText("h1", "being set up").wantText("title", "Setting up lab-1")
	st.next("said").wantText("span", "being set up")

	s.report("lab-1", fleet.EventConnect, "")
	s.feed.Publish("lab-1")
	st.next("seat").wantText("h1", "Your VM is ready").wantText("title", "Ready: lab-1").wantNone(code(1))
	st.next("said").wantText("span", "Your VM lab-1 is ready.")

	s.must(s.store.Release(t.Context(), tester, "lab-1"))
	s.feed.Publish("lab-1")
	st.next("seat").wantText("h1", "no longer yours")
	st.next("end")
	st.wantEnd()
}

func TestSeatStreamEndsForWhoMayNotSeeIt(t *testing.T) {
	t.Parallel()

	t.Run("when the browser forgets its seat", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.web.Quicken()
		s.register(true, "lab-1")
		b := s.browser()
		b.seated("ada@example.org", code(1))
		st := b.listen("/seat/events")
		st.next("seat")
		b.post("/seat/forget").wantRedirect("/")
		s.report("lab-1", fleet.EventConnect, "")
		s.feed.Publish("lab-1")
		st.next("seat").wantText("h1", "has no VM yet").wantNone("lab-1")
		st.wantEnd()
	})

	t.Run("and follows the seat to another VM", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.web.Quicken()
		s.register(true, "lab-1", "lab-2")
		b, other := s.browser(), s.browser()
		b.seated("ada@example.org", code(1))
		pin := other.seated("bob@example.org", code(2)).text(".pin")
		st := b.listen("/seat/events")
		st.next("seat")
		b.post("/seat/find", "email", "bob@example.org", "pin", pin).wantRedirect("/seat")
		s.feed.Publish("lab-1")
		st.next("seat").wantText("title", "lab-2")
		s.report("lab-2", fleet.EventConnect, "")
		s.feed.Publish("lab-2")
		st.next("seat").wantText("title", "Ready: lab-2")
	})

	t.Run("when the server stops", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.register(true, "lab-1")
		b := s.browser()
		b.seated("ada@example.org", code(1))
		st := b.listen("/seat/events")
		st.next("seat")
		s.closeFeed()
		st.wantEnd()
	})
}

func TestFind(t *testing.T) {
	t.Parallel()

	t.Run("opens the seat on another device", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.register(true, "lab-1")
		first, second := s.browser(), s.browser()
		pin := first.seated("ada@example.org", code(1)).text(".pin") // with the space that the page shows
		second.get("/seat/find").want(http.StatusOK).wantCount(`form[action="/seat/find"] input`, 2)
		second.post("/seat/find", "email", " ADA@example.org", "pin", pin).wantRedirect("/seat")
		second.get("/seat").want(http.StatusOK).wantText(".hostname", "lab-1").wantText(".pin", pin)
		first.get("/seat").want(http.StatusOK)
	})

	t.Run("says what is missing", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		page := s.visitor().post("/seat/find").want(http.StatusBadRequest)
		page.wantCount(`#email[aria-invalid][aria-describedby="email-error"][autofocus]`, 1).wantCount(`#pin[aria-invalid][aria-describedby="pin-error"]`, 1)
		page.wantCount("[autofocus]", 1)
	})

	t.Run("limits the attempts of each address, right or wrong", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.register(true, "lab-1", "lab-2")
		pin := s.browser().seated("ada@example.org", code(1)).text(".pin")
		bob := s.browser().seated("bob@example.org", code(2)).text(".pin")
		guesser := s.visitor()
		for range 5 {
			guesser.post("/seat/find", "email", "ada@example.org", "pin", "wrong").want(http.StatusBadRequest).
				wantText("#pin-error", "No VM fits").wantCount(`#email[value="ada@example.org"]`, 1).wantNone("lab-1")
		}
		last := guesser.post("/seat/find", "email", "ADA@example.org ", "pin", pin).want(http.StatusTooManyRequests).wantText("[role=alert]", "Too many wrong attempts")
		if last.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		guesser.get("/seat").want(http.StatusNotFound)
		// Others are not locked out by it.
		guesser.post("/seat/find", "email", "bob@example.org", "pin", bob).wantRedirect("/seat")
	})

	t.Run("a success forgets earlier failures", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.register(true, "lab-1")
		b := s.browser()
		pin := b.seated("ada@example.org", code(1)).text(".pin")
		for range 3 {
			for range 4 {
				b.post("/seat/find", "email", "ada@example.org", "pin", "wrong").want(http.StatusBadRequest)
			}
			b.post("/seat/find", "email", "ada@example.org", "pin", pin).wantRedirect("/seat")
		}
	})
}

func TestForgetChangesTheCookie(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.register(true, "lab-1")
	b := s.browser()
	b.seated("ada@example.org", code(1))
	if got := b.post("/seat/forget").wantRedirect("/").header.Get("Set-Cookie"); !strings.HasPrefix(got, "lablink_browser=") {
		t.Errorf("Set-Cookie %q", got)
	}
	b.get("/").wantCount(`a[href="/seat"]`, 0)
	if vm := s.vm("lab-1"); !vm.Seat.Held() {
		t.Errorf("the seat is %s", vm.Seat)
	}
}
