package web_test

import (
	"net/http"
	"strings"
	"testing"

	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/store"
	"lablink/internal/testkit"
)

func TestCreate(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	admin := s.adminBrowser()
	page := admin.get("/admin/create").want(http.StatusOK).wantText(".card > p", "There are no VMs now. Up to 10 more").wantText("#num_vms-help", "vm-")
	page.wantCount(`form[method=post][action="/api/launch"]`, 1).wantText("form button[type=submit]", "Launch").wantCount("[autofocus], [aria-invalid], .error", 0)
	page.wantCount(`#num_vms[name=num_vms][type=number][min="1"][max="10"][required]`, 1).wantCount(`#instance_type[name=instance_type][value=small]`, 1)
	page.wantCount(`nav [aria-current=page][href="/admin/create"]`, 1).wantCount("nav li", 6)
	if got := page.text("form button"); got != "Launch" {
		t.Errorf("the button says %q", got)
	}

	s.register(true, "lab-1", "lab-2") // do not count
	s.launch(1)
	admin.get("/admin/create").wantText(".card > p", "There is 1 VM now. Up to 9 more").wantCount(`#num_vms[max="9"]`, 1)
	s.launch(9)
	admin.get("/admin/create").wantText(".card", "There are 10 VMs, and limits.max_vms allows no more than 10").wantCount("form", 0)

	none := newSite(t)
	none.adminBrowser().get("/admin/create").want(http.StatusOK).wantCount("form", 0).wantText(".notice", "This server makes no VMs").
		wantText(".notice", "local or aws").wantCount(`.notice a[href="/admin/instances/register"]`, 1)
	cloud := newSite(t, makesVMs, func(c *config.Config) { c.Provider = config.ProviderAWS })
	cloud.adminBrowser().get("/admin/create").wantText("#instance_type-help", "g4dn.xlarge")
}

func TestLaunchRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	const path, hostile = "/api/launch", `"><script>alert(1)</script>`
	number := fleet.FieldErrorf("num_vms", "400 VMs cannot be created: ask for 1 to 200")
	page := s.refusal(s.web.LaunchRefused, path, number, "num_vms", "400", "instance_type", "g4dn.xlarge").want(http.StatusBadRequest)
	page.wantText("#num_vms-error[role=alert]", "400 VMs cannot be created: ask for 1 to 200. Nothing was created.")
	page.wantCount(`#num_vms[value="400"][aria-invalid=true][autofocus][aria-describedby^="num_vms-error"]`, 1)
	page.wantCount(`#instance_type[value="g4dn.xlarge"]:not([aria-invalid]):not([autofocus])`, 1)

	kind := fleet.FieldErrorf("instance_type", "%s is not an instance type", hostile)
	page = s.refusal(s.web.LaunchRefused, path, kind, "num_vms", "3", "instance_type", hostile).want(http.StatusBadRequest)
	page.wantText("#instance_type-error[role=alert]", "is not an instance type").wantCount(`#instance_type[aria-invalid=true][autofocus]`, 1)
	page.wantCount(`#num_vms[value="3"]:not([aria-invalid])`, 1).wantNone("<script>alert").wantCount("main script", 0)
	if got := page.attr("#instance_type", "value"); got != hostile {
		t.Errorf("the field holds %q", got)
	}

	s.refusal(s.web.LaunchRefused, path, number, "num_vms", " ").wantText("#num_vms-error", "Type how many VMs to create.")
	s.refusal(s.web.LaunchRefused, path, fleet.Errorf(fleet.Conflict, "not now"), "num_vms", "3").want(http.StatusConflict).
		wantText(".notice.bad[role=alert]", "Not now. Nothing was created.").wantCount(`#num_vms[value="3"]`, 1)
	s.launch(10)
	s.refusal(s.web.LaunchRefused, path, number, "num_vms", "400").wantCount("form", 0).wantText(".error[role=alert]", "400 VMs")

	// What no form mends is an ordinary error.
	s.refusal(s.web.LaunchRefused, path, fleet.Errorf(fleet.TooLarge, "the form is too large")).want(http.StatusRequestEntityTooLarge).wantText("h1", "too much")
	broken := s.refusal(s.web.LaunchRefused, path, fleet.Errorf(fleet.Internal, "secret")).want(http.StatusInternalServerError)
	broken.wantText("h1", "Something went wrong").wantNone("secret")
	none := newSite(t)
	none.refusal(none.web.LaunchRefused, path, fleet.Errorf(fleet.Conflict, "This server makes no VMs"), "num_vms", "3").
		want(http.StatusConflict).wantCount("form", 0).wantCount(`a[href="/admin/instances/register"]`, 2)
	s.store.Close()
	if page := s.refusal(s.web.LaunchRefused, path, number); page.status != http.StatusInternalServerError || !strings.Contains(page.body, "Something went wrong") {
		t.Errorf("without the database: %d\n%s", page.status, page.body)
	}
}

// The whole way through the API, which reads the form.
func TestRefusedFormsKeepWhatWasTyped(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{Configure: func(c *config.Config) { c.Provider = config.ProviderLocal }})
	post := func(path, form string) *answer {
		t.Helper()
		r := a.Do(t.Context(), testkit.Request{Path: path, Admin: true, Form: form, Header: map[string]string{"Accept": "text/html"}})
		return &answer{t: t, status: r.Status, header: r.Header, body: r.Body}
	}
	post("/api/launch", "num_vms=900&instance_type=g4dn.xlarge").want(http.StatusBadRequest).wantCount(`#num_vms[value="900"][aria-invalid=true]`, 1).
		wantCount(`#instance_type[value="g4dn.xlarge"]`, 1).wantText("#num_vms-error", "900 VMs cannot be created: ask for 1 to 200 (limits.max_vms). Nothing was created.")
	post("/api/launch", "num_vms=3&instance_type=a+b").want(http.StatusBadRequest).wantCount(`#instance_type[value="a b"][aria-invalid=true]`, 1).wantCount(`#num_vms[value="3"]`, 1)
	op, err := a.Store.Launch(t.Context(), tester, store.Launch{Provider: "other", Prefix: "vm-", InstanceType: "small", Count: 2, Most: 2})
	if err != nil || op.State != fleet.OperationPending {
		t.Fatalf("%+v, %v", op, err)
	}
	post("/destroy", "hostname=vm-1").want(http.StatusConflict).wantText(".notice.bad", "nothing was destroyed").wantText(".notice:not(.bad)", "vm-1")
	post("/destroy", "all=yes&confirm=7").want(http.StatusConflict).wantText(".notice:not(.bad)", "Other machines are never touched: 2 machines")
}
