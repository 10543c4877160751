package web_test

import (
	"net/http"
	"strings"
	"testing"

	"lablink/internal/fleet"
)

// An admin reads why a VM is in error wherever its state is shown.
func TestProblem(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	s.made(1)
	s.running("vm-1")
	admin := s.adminBrowser()
	const problem = "docker pull: <b>no such image</b>"
	s.must(s.store.SetError(t.Context(), fleet.Actor{Kind: "vm"}, "vm-1", problem))
	pages := map[string]string{"/admin/instances": "tbody tr .note", "/admin/instances/vm-1": ".facts .note", operationPath + "1": "#vms tbody tr .condition + .note"}
	for path, place := range pages {
		admin.get(path).want(http.StatusOK).wantText(place, "Not given to participants. "+problem).wantCount("main b b", 0)
	}
	admin.get("/admin/instances/vm-1").wantText(".history", problem).wantCount("#why", 0)

	// A long one is whole on the machine's own page.
	long := strings.Repeat("and so on ", 40) + "the end"
	s.must(s.store.SetError(t.Context(), fleet.Actor{Kind: "vm"}, "vm-1", long))
	if got := admin.get("/admin/instances").text("tbody tr .note"); !strings.HasSuffix(got, "…") || strings.Contains(got, "the end") {
		t.Errorf("in the table: %q", got)
	}
	admin.get("/admin/instances/vm-1").wantText("#why summary", "All that it says").wantText("#why pre", "the end")

	// A participant who has it reads nothing of it, and the admin does.
	s.running("vm-1")
	p := s.visitor()
	p.request("ada@example.org", "4/0code-ada").wantRedirect("/seat")
	s.must(s.store.SetError(t.Context(), fleet.Actor{Kind: "vm"}, "vm-1", problem))
	p.get("/seat").want(http.StatusOK).wantNone("docker")
	admin.get("/admin/instances").wantText("tbody tr .note", "The machine reports an error. "+problem)

	s.running("vm-1")
	for path := range pages {
		admin.get(path).want(http.StatusOK).wantCount("tbody .note:contains(docker)", 0)
	}
}
