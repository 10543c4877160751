package web_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"lablink/internal/config"
	"lablink/internal/fleet"
)

func TestAdminNeedsLogin(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.register(true, "lab-1")
	for _, path := range []string{
		"/admin", "/admin/", "/admin/instances", "/admin/instances/events", "/admin/instances/register",
		"/admin/instances/lab-1", "/admin/instances/nothing", "/admin/nothing", "/admin/create", "/admin/instances/delete", "/admin/instances/delete?hostname=lab-1",
		"/admin/operations", "/admin/operations/1", "/admin/operations/nothing", "/admin/operations/1/output", "/admin/operations/1/nothing",
	} {
		s.browser().get(path).want(http.StatusUnauthorized).wantNone("lab-1")
	}
	for _, path := range []string{
		"", "/instances/register", "/instances/lab-1/release", "/instances/lab-1/pin", "/instances/lab-1/token", "/instances/lab-1/remove",
		"/instances/lab-1/replace", "/nothing",
	} {
		s.browser().post("/admin" + path).want(http.StatusUnauthorized)
	}
	s.adminBrowser().get("/admin/nothing").want(http.StatusNotFound)
	s.adminBrowser().get("/admin/instances/nothing").want(http.StatusNotFound).wantCount(`a[href="/admin/instances"]`, 2)
	s.adminBrowser().get("/admin/instances/%00").want(http.StatusBadRequest)
	s.adminBrowser().get("/admin/instances?q=%00%ff").want(http.StatusBadRequest)
	s.adminBrowser().get("/admin/instances?q=%25_%5C&page=-1").want(http.StatusOK)
}

func TestOverview(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.adminBrowser()
	admin.get("/admin").want(http.StatusOK).wantText(".notice", "no machines yet. Register some").wantCount(`main a[href="/admin/create"], main a[href="/admin/instances/delete"]`, 0)
	s.register(true, "lab-1", "lab-2", "lab-3")
	s.browser().seated("ada@example.org", code(1))
	s.report("lab-1", fleet.EventFail, "refused")
	page := admin.get("/admin").want(http.StatusOK)
	page.wantText(".tile:nth-child(1)", "2 free").wantText(".tile:nth-child(2)", "1 taken of 3").wantText(".tile:nth-child(3)", "3 connected")
	page.wantText(".tile:nth-child(4)", "1 in trouble").wantText(".tile:nth-child(5)", "0 silent").wantText(".seats", "1 set-up failed")
	page.wantCount("nav [aria-current=page]", 1).wantCount(".notice", 0)

	open := newSite(t, func(c *config.Config) { c.Auth.Machines = config.MachineOpen })
	for _, path := range []string{"/admin", "/admin/instances", "/admin/instances/register"} {
		open.adminBrowser().get(path).wantText(".notice.bad", "Machines need no credential")
	}
	open.browser().get("/").wantCount(".notice.bad", 0)
}

func TestOverview_Provider(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	admin := s.adminBrowser()
	page := admin.get("/admin").want(http.StatusOK).wantText(".notice", "no machines yet. Create VMs to begin, or register machines").wantCount("#running", 0)
	page.wantText(`.heading a[href="/admin/create"]`, "Create VMs").wantText(`.heading a[href="/admin/instances/delete"]`, "Destroy All VMs")
	s.launch(3)
	r := s.claim()
	r.enter(fleet.PhaseApplying)
	r.done(1)
	admin.get("/admin").wantCount("#running + ul li", 1).wantText("#running + ul li", "Launch of 3 VMs creating VMs 1 of 3 created").
		wantCount(`#running + ul a[href="/admin/operations/1"]`, 1)
	r.finish(fleet.OperationCancelled, "")
	admin.get("/admin").wantCount("#running", 0).wantCount(".notice", 0)
}

func TestInstances_Provider(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	admin := s.adminBrowser()
	admin.get("/admin/instances").wantText(".notice", "no machines yet. Create VMs to begin").wantCount("#destroy-selected", 0).
		wantText(`.heading a[href="/admin/create"]`, "Create VMs")
	s.register(true, "lab-1")
	admin.get("/admin/instances").wantCount("#destroy-selected, input[type=checkbox]", 0)
	s.made(2)
	s.launch(1)
	page := admin.get("/admin/instances").wantCount("tbody tr", 4).wantText("#destroy-selected[type=submit][form=pick]", "Destroy selected…")
	page.wantCount(`form#pick[method=get][action="/admin/instances/delete"] input[name=selected]`, 1).wantCount(`input[type=checkbox][name=hostname][form=pick]`, 3)
	page.wantCount(`#pick-vm-2[value="vm-2"][aria-label="Select vm-2"]`, 1).wantText("tbody tr:nth-child(2)", "vm-1 booting").wantText("tbody tr:nth-child(4)", "vm-3 being created")
	if none := newSite(t).adminBrowser().get("/admin/instances"); len(none.all(`main a[href="/admin/create"]`)) > 0 {
		t.Error("VMs cannot be created here")
	}
}

func TestInstances(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.adminBrowser()
	var names []string
	for n := range 205 {
		names = append(names, fmt.Sprintf("lab-%d", n+1))
	}
	s.register(false, names...)
	s.register(true, "zoo-1")
	pin := strings.ReplaceAll(s.browser().seated("ada@example.org", code(1)).text(".pin"), " ", "")

	page := admin.get("/admin/instances").want(http.StatusOK).wantCount("tbody tr", 200).wantText(".summary", "1 to 200 of 206")
	page.wantCount(`#next[href="/admin/instances?page=2"]`, 1).wantCount("#previous", 0)
	page = admin.get("/admin/instances?page=2").wantCount("tbody tr", 6).wantText("tbody tr:last-child", "zoo-1").wantCount("#previous", 1).wantCount("#next", 0)
	page.wantText("tbody tr:last-child td:nth-child(2)", "sending the participant's command").wantText("tbody tr:last-child td:nth-child(3)", "ada@example.org")
	page.wantCount("tbody tr:last-child time[datetime]", 1).wantText("tbody tr:last-child td:nth-child(7)", "connected now").wantNone(code(1), pin)
	page.wantCount(`#page[value="2"]`, 1)

	admin.get("/admin/instances?q=ADA@").wantCount("tbody tr", 1).wantText("tbody th", "zoo-1").wantCount(`#q[value="ADA@"]`, 1)
	admin.get("/admin/instances?q=lab-20").wantCount("tbody tr", 7)
	admin.get("/admin/instances?q=nobody").wantText(".notice", "matches “nobody”")
	admin.get("/admin/instances?page=9").wantText(".notice", "no page 9").wantCount(`.notice a[href="/admin/instances?page=2"]`, 1)
}

func TestAdminFollows(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.web.Quicken()
	st := s.adminBrowser().listen("/admin/instances/events")
	s.feed.Publish("lab-1")
	st.next("changed")
	s.feed.Publish("lab-2")
	st.next("changed")
	s.closeFeed()
	st.wantEnd()
}

func TestInstance(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.register(true, "lab-1")
	participant, admin := s.browser(), s.adminBrowser()
	const page = "/admin/instances/lab-1"

	admin.get(page).want(http.StatusOK).wantText(".facts", "waiting for a participant").wantText("#history + ol", "Registered").
		wantCount(`form[action$="/remove"]`, 1).wantCount(`form[action$="/release"]`, 0).wantCount(`form[action$="/pin"]`, 0)
	admin.post(page+"/release").want(http.StatusConflict).wantText("h1 + p", "lab-1: nobody holds it").wantCount(`a[href="`+page+`"]`, 1)
	admin.post(page + "/pin").want(http.StatusNotFound)

	pin := participant.seated("ada@example.org", code(1)).text(".pin")
	bare := strings.ReplaceAll(pin, " ", "")
	s.report("lab-1", fleet.EventFail, "Google refused it.")
	admin.get(page).wantText(".condition", "set-up failed").wantText(".note", "Google refused it.").wantText(".facts", "ada@example.org").
		wantCount(`form[action$="/remove"]`, 0).wantCount(`form[action$="/release"]`, 1).wantNone(code(1), bare, pin)
	admin.post(page + "/remove").want(http.StatusConflict)

	shown := admin.post(page+"/pin").want(http.StatusOK).wantText(".pin", pin).wantNone(code(1))
	if shown.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", shown.header)
	}
	admin.get(page).wantText("#history + ol li:first-child", "PIN shown").wantText("#history + ol li:first-child", "Admin, 127.0.0.1").wantNone(bare, pin)

	admin.post(page + "/release").wantRedirect(page + "?done=released")
	admin.get(page+"?done=released").wantText(".notice.good", "seat is released").wantText(".condition", "being cleaned").
		wantCount(`form[action$="/clean"]`, 1).wantCount(`form[action$="/release"]`, 0)
	participant.get("/seat").want(http.StatusGone)
	s.clean("lab-1", fleet.EventCleanFailed, "start-host is stuck")
	admin.get(page).wantText(".condition", "clean-up failed").wantText("#history + ol li:first-child b", "Clean-up failed").wantCount(`form[action$="/release"]`, 1)
	admin.post(page + "/clean").wantRedirect(page + "?done=clean")
	admin.post(page + "/clean").want(http.StatusConflict)
	admin.get(page+"?done=<script>").want(http.StatusOK).wantCount(".notice", 0)

	admin.post(page + "/remove").wantRedirect("/admin/instances?done=removed")
	admin.get("/admin/instances?done=removed").wantText(".notice.good", "is removed")
	admin.get(page).want(http.StatusNotFound)
}

func TestRegister(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *config.Config) { c.Server.PublicURL = "https://lab.example.org" })
	admin := s.adminBrowser()
	admin.get("/admin/instances/register").want(http.StatusOK).wantCount(`form[action="/admin/instances/register"] textarea`, 1)

	admin.post("/admin/instances/register", "hostnames", "lab-1\nLab 2").want(http.StatusBadRequest).
		wantText("#hostnames-error", "not a valid host name").wantText("#hostnames", "lab-1 Lab 2").wantText("#hostnames-help", "up to 1000")
	for names, problem := range map[string]string{
		" ,\n": "Give 1 to 1000 host names, not 0", "lab-1 lab-2,lab-1": "twice", "events": "name of a page", "'; rm -rf /; echo '": "not a valid host name",
		strings.Repeat("x ", 1001): "Give 1 to 1000 host names, not 1001",
	} {
		admin.post("/admin/instances/register", "hostnames", names).want(http.StatusBadRequest).wantText("#hostnames-error", problem)
	}
	page := admin.post("/admin/instances/register", "hostnames", "lab-1, lab-2\r\nlab-3\r\n").want(http.StatusOK).wantCount(".command pre", 3).wantCount(".copy", 4)
	if page.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", page.header)
	}
	admin.post("/admin/instances/register", "hostnames", "lab-4 lab-3").want(http.StatusConflict).wantText("#hostnames-error", "Already registered: lab-3")
	admin.get("/admin/instances").wantCount("tbody tr", 3)

	tokens := regexp.MustCompile(`[\w-]{43}`).FindAllString(page.text(".command:nth-of-type(2) pre"), -1)
	if len(tokens) != 1 {
		t.Fatalf("%d tokens in the command", len(tokens))
	}
	machine, err := s.store.MachineByToken(t.Context(), fleet.HashToken(tokens[0]))
	if err != nil || machine.Hostname != "lab-2" {
		t.Errorf("the token belongs to %+v (%v)", machine, err)
	}
	admin.get("/admin/instances/lab-2").wantNone(tokens[0])

	more := admin.post("/admin/instances/lab-2/token").want(http.StatusOK).wantCount(".command pre", 1).wantCount(".notice.bad", 0)
	fresh := regexp.MustCompile(`[\w-]{43}`).FindString(more.text(".command pre"))
	for _, token := range []string{tokens[0], fresh} {
		if m, err := s.store.MachineByToken(t.Context(), fleet.HashToken(token)); err != nil || m.Hostname != "lab-2" {
			t.Errorf("%+v, %v", m, err)
		}
	}
	only := admin.post("/admin/instances/lab-2/token", "replace", "yes").want(http.StatusOK).wantText(".notice.bad", "no longer valid")
	for _, token := range []string{tokens[0], fresh} {
		if _, err := s.store.MachineByToken(t.Context(), fleet.HashToken(token)); fleet.KindOf(err) != fleet.Unauthenticated {
			t.Errorf("an old token: %v", err)
		}
	}
	if m, err := s.store.MachineByToken(t.Context(), fleet.HashToken(regexp.MustCompile(`[\w-]{43}`).FindString(only.text(".command pre")))); err != nil || m.Hostname != "lab-2" {
		t.Errorf("%+v, %v", m, err)
	}
	admin.get("/admin/instances/lab-2").wantCount("form[action$='/token'] input[name=replace]:not([checked])", 1)
	admin.post("/admin/instances/lab-9/token").want(http.StatusNotFound)
}

// The command is pasted into a shell: it is run by one here.
func TestAgentCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	etc, seen := filepath.Join(dir, "etc"), filepath.Join(dir, "seen")
	s := newSite(t)
	page := s.adminBrowser().post("/admin/instances/register", "hostnames", "lab-1").want(http.StatusOK)
	command := strings.ReplaceAll(page.attr(".copy", "data-copy"), "/etc/lablink", etc)
	s.must(os.MkdirAll(etc, 0o755))
	s.must(os.WriteFile(filepath.Join(etc, "agent-token"), []byte("old"), 0o644))
	s.must(os.WriteFile(filepath.Join(dir, "lablink"), []byte("#!/bin/sh\necho \"$@\" >"+seen+"\n"), 0o755))
	for _, shell := range []string{"sh", "bash"} {
		cmd := exec.CommandContext(t.Context(), shell, "-c", "unset SUDO_USER\n"+command) // where root logs in as such
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "put the desktop user here") {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
		if _, err := os.Stat(seen); err == nil {
			t.Fatalf("%s: root's desktop was handed out", shell)
		}
	}
	for _, shell := range []string{"sh", "bash"} {
		cmd := exec.CommandContext(t.Context(), shell, "-c", command)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "SUDO_USER=grace")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s\n%s", shell, err, command, out)
		}
		token, err := os.ReadFile(filepath.Join(etc, "agent-token"))
		s.must(err)
		if m, err := s.store.MachineByToken(t.Context(), fleet.HashToken(strings.TrimSpace(string(token)))); err != nil || m.Hostname != "lab-1" {
			t.Errorf("%s: the file holds the token of %+v (%v)", shell, m, err)
		}
		if fi, err := os.Stat(filepath.Join(etc, "agent-token")); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", shell, fi.Mode(), err)
		}
		args, err := os.ReadFile(seen)
		s.must(err)
		want := "agent --allocator " + s.server.URL + " --hostname lab-1 --token-file " + etc + "/agent-token --user grace\n"
		if string(args) != want {
			t.Errorf("%s: got %q, want %q", shell, args, want)
		}
	}
}

// The open page of a machine that is removed says so, and is no error.
func TestInstance_Removed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.adminBrowser()
	admin.get("/admin/instances/lab-1").want(http.StatusNotFound)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+"/admin/instances/lab-1", http.NoBody)
	s.must(err)
	r.Header.Set("HX-Request", "true")
	admin.send(r).want(http.StatusOK).wantText("#live", "has been removed").wantCount("#actions > *", 1)
}

func TestInstance_OfTerraform(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	admin := s.adminBrowser()
	const page = "/admin/instances/vm-1"
	s.launch(1)
	admin.get(page).wantText(".facts", "being created").wantText(".facts", "Terraform (local)").wantText(".facts", "small").wantNone("At the provider", "<dt>Address").
		wantCount(`form[action$="/token"], form[action$="/remove"]`, 0)
	r := s.claim()
	r.done(0)
	s.must(r.Describe(t.Context(), []string{"vm-1"}, []string{"i-0123"}, []string{"198.51.100.7"}))
	r.finish(fleet.OperationSucceeded, "")
	shown := admin.get(page).wantText(".facts", "booting").wantText(".facts", "i-0123").wantText(".facts", "198.51.100.7").wantCount(`form[action$="/token"]`, 1)
	shown.wantCount(`.actions a[href="/admin/instances/delete?hostname=vm-1"]`, 1).wantText(".actions", "No participant holds it now")
	shown.wantCount(`.history a[href="/admin/operations/1"]`, 1)
	seen := shown.attr(`form[action="`+page+`/replace"] input[name=seen]`, "value")

	// It is replaced as the page showed it, or not at all.
	s.running("vm-1")
	s.browser().seated("ada@example.org", code(1))
	admin.post(page+"/replace", "seen", seen).want(http.StatusConflict).wantText("h1 + p", "Something has changed").wantCount(`a[href="`+page+`"]`, 1)
	admin.post(page+"/replace", "seen", "nonsense").want(http.StatusBadRequest)
	shown = admin.get(page).wantText(".actions", "ada@example.org loses it at once")
	admin.post(page+"/replace", "seen", shown.attr("input[name=seen]", "value")).wantRedirect("/admin/operations/3")
	admin.get("/admin/operations/3").wantText("h1", "Launch of vm-2").wantText("#now .lines li", "Destruction of vm-1 waiting for its turn").wantText("#now", "small")
	admin.get(page).want(http.StatusNotFound)
	admin.post(page+"/replace", "seen", seen).want(http.StatusNotFound)
	admin.get(page + "/replace").wantRedirect(page)
}
