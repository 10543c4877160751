package web_test

import (
	"net/http"
	"testing"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

func TestDeleteAll(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	admin := s.adminBrowser()
	const path = "/admin/instances/delete"
	admin.get(path).want(http.StatusOK).wantText(".notice", "no VMs to destroy").wantCount(`.notice a[href="/admin/create"]`, 1).wantCount("form", 0)
	s.register(true, "lab-1")
	admin.get(path).wantText(".notice", "Other machines are never touched: 1 machine").wantCount("form", 0)

	s.made(3)
	s.running("vm-1", "vm-2")
	s.browser().seated("ada@example.org", code(1)) // lab-1 waits, and comes first
	s.browser().seated("ben@example.org", code(2))
	s.launch(1)
	s.must(s.store.SetInUse(t.Context(), "vm-1", true))
	holder := "vm-1"
	if s.vm("vm-1").Email == "" {
		holder = "vm-2"
		s.must(s.store.SetInUse(t.Context(), "vm-2", true))
	}
	page := admin.get(path).want(http.StatusOK).wantText("h1", "Destroy all VMs")
	page.wantText("strong:first-child", "All 4 VMs are destroyed").wantText(".card", "One participant loses a VM at once")
	page.wantCount(".holders li", 1).wantText(".holders li", holder+" ben@example.org, since a moment ago, in use now")
	page.wantCount(".holders + h2 + p .name", 3).wantText(".card", "Still being created: 1.").wantText(".card", "History and logs stay")
	page.wantText(".card", "Other machines are not touched: 1 machine").wantNone("ada@example.org", "lab-1")
	page.wantCount(`form[method=post][action="/destroy"] input[name=all][value=yes]`, 1).wantCount("input[name=hostname]", 0)
	page.wantText("label[for=confirm]", "Type 4").wantCount("#confirm[name=confirm][required]:not([aria-invalid]):not([autofocus])", 1)
	if got := page.text("form button"); got != "Destroy All VMs" {
		t.Errorf("the button says %q", got)
	}

	// The page's own words of who holds what are believed, until somebody else does.
	seen, err := store.ParseHolders(page.attr("input[name=seen]", "value"))
	s.must(err)
	s.running("vm-3")
	s.browser().seated("cleo@example.org", code(3))
	_, err = s.store.Destroy(t.Context(), tester, store.Destroy{Provider: provider, All: true, Confirm: 4, Seen: seen})
	if fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("somebody got a VM meanwhile: %v", err)
	}
	changed := s.refusal(s.web.DestroyRefused, "/destroy", fleet.Errorf(fleet.Conflict, "Something has changed"),
		"all", "yes", "confirm", "4", "seen", seen.String()).want(http.StatusConflict)
	changed.wantText(".notice.bad[role=alert]", "Something has changed.").wantCount(`#confirm[value="4"]`, 1).wantCount(".holders li", 2)
	seen, err = store.ParseHolders(changed.attr("input[name=seen]", "value"))
	s.must(err)
	if _, err = s.store.Destroy(t.Context(), tester, store.Destroy{Provider: provider, All: true, Confirm: 4, Seen: seen}); err != nil {
		t.Errorf("looked again: %v", err)
	}
	admin.get(path).wantText(".notice", "no VMs to destroy")

	none := newSite(t)
	none.adminBrowser().get(path).want(http.StatusOK).wantText(".notice", "makes no VMs").wantCount("form", 0)
}

func TestDeleteChosen(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	admin := s.adminBrowser()
	const path = "/admin/instances/delete"
	s.register(true, "lab-1")
	s.made(3)
	page := admin.get(path + "?hostname=vm-1&hostname=vm-3&hostname=lab-1&hostname=gone&hostname=vm-1").want(http.StatusOK)
	page.wantText("h1", "Destroy 2 VMs").wantText("strong:first-child", "These 2 VMs are destroyed").wantText(".card", "No participant loses anything by it.")
	page.wantCount("input[name=hostname]", 2).wantCount("input[name=all], #confirm", 0).wantText(".notice", "gone, lab-1. Terraform has no such VM")
	page.wantCount(`input[name=seen][value="vm-1:0 vm-3:0"]`, 1)
	if got := page.text("form button"); got != "Destroy 2 VMs" {
		t.Errorf("the button says %q", got)
	}
	one := admin.get(path+"?hostname=vm-2&selected=yes").wantText("h1", "Destroy vm-2").wantText("strong:first-child", "The VM vm-2 is destroyed").wantCount(".notice", 0)
	if got := one.text("form button"); got != "Destroy vm-2" {
		t.Errorf("the button says %q", got)
	}
	admin.get(path+"?selected=yes").want(http.StatusOK).wantText(".notice", "No VM was selected").wantCount("form", 0)
	admin.get(path+"?hostname=lab-1").want(http.StatusOK).wantText(".notice", "lab-1").wantCount("form", 0)
	admin.get(path+"?hostname=%3Cscript%3Ealert(1)%3C/script%3E").want(http.StatusOK).wantCount("main script", 0).wantText(".notice", "<script>")

	s.refusal(s.web.DestroyRefused, "/destroy", &fleet.Error{Kind: fleet.NotFound, Field: "hostnames", Message: "there is no VM named gone; nothing was destroyed"},
		"hostname", "gone", "hostname", "vm-2").want(http.StatusNotFound).wantText(".notice.bad[role=alert]", "There is no VM named gone; nothing was destroyed.").
		wantCount(`input[name=hostname][value="vm-2"]`, 1).wantCount("input[name=hostname]", 1)
}

func TestDestroyRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	s.made(2)
	wrong := fleet.FieldErrorf("confirm", "there are 2 VMs, not 3: type 2 to destroy them all")
	page := s.refusal(s.web.DestroyRefused, "/destroy", wrong, "all", "yes", "confirm", "3").want(http.StatusBadRequest)
	page.wantText("#confirm-error[role=alert]", "There are 2 VMs, not 3: type 2 to destroy them all.")
	page.wantCount(`#confirm[value="3"][aria-invalid=true][aria-describedby=confirm-error][autofocus]`, 1).wantCount(`input[name=all][value=yes]`, 1)
	s.refusal(s.web.DestroyRefused, "/destroy", wrong, "all", "yes", "confirm", "").wantText("#confirm-error", "Type the number of VMs.")
	s.refusal(s.web.DestroyRefused, "/destroy", fleet.Errorf(fleet.Unavailable, "That took too long.")).want(http.StatusServiceUnavailable).wantText("h1", "Not right now")
	s.refusal(s.web.DestroyRefused, "/destroy", fleet.Errorf(fleet.Unauthenticated, "log in")).want(http.StatusUnauthorized).wantNone("vm-1", "/admin/operations")
}
