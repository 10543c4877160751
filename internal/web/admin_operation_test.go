package web_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/httpx"
)

const operationPath = "/admin/operations/"

func TestOperation_Unknown(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	s.launch(1)
	admin := s.adminBrowser()
	for _, id := range []string{"2", "0", "-1", "99999999999999999999", "one", "1x", "%20", "1%2Foutput"} {
		for _, end := range []string{"", "/output"} {
			admin.get(operationPath+id+end).want(http.StatusNotFound).wantCount(`main a[href="/admin/operations"]`, 1).wantCount("nav [aria-current=page]", 1)
		}
	}
	admin.get(operationPath + "1/nothing").want(http.StatusNotFound)
}

func TestOperation_LaunchFromBeginningToEnd(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	admin := s.adminBrowser()
	first, op := s.launch(2), s.launch(4)
	path := operationPath + fmt.Sprint(op.ID)
	look := func() *answer { return admin.get(path).want(http.StatusOK) }

	page := look().wantText("h1", "Launch of 4 VMs").wantText("title", "Waiting for its turn: Launch of 4 VMs").wantText("#state", "waiting for its turn")
	page.wantText("#now .lines li", "Launch of 2 VMs waiting for its turn 0 of 2 created").wantCount(fmt.Sprintf(`#now .lines a[href="/admin/operations/%d"]`, first.ID), 1)
	page.wantText("#tally", "0 of 4 created").wantCount(`progress[max="4"][value="0"][aria-labelledby=tally]`, 1).wantText(".facts", "not begun yet")
	page.wantCount("#vms tbody tr", 4).wantText("#vms tbody tr:first-child td:nth-child(2)", "waiting").wantText("#output", "has not begun")
	page.wantCount(`form[method=post][action="/api/operations/`+fmt.Sprint(op.ID)+`/stop"]`, 1).wantCount(`form[action$="/retry"]`, 0)
	page.wantCount(`noscript`, 1).wantText(".facts", "number 2, provider local").wantText(".facts", "small")
	if !strings.Contains(page.body, `<meta http-equiv="refresh"`) {
		t.Error("without script, the page does not follow")
	}

	admin.get(operationPath+fmt.Sprint(first.ID)).wantText("#now", "begins within seconds").wantCount("#now .lines", 0)

	r := s.claim()
	look().wantText("#now .lines li", "Launch of 2 VMs preparing")
	r.finish(fleet.OperationSucceeded, "")
	r = s.claim()
	look().wantText("#state", "preparing").wantText("#now", "Terraform gets its working folder").wantCount("#now .lines", 0)
	r.enter(fleet.PhasePlanning)
	look().wantText("#state", "planning").wantText("#now", "Nothing is changed yet")
	s.must(r.Plan(t.Context(), r.ids(0, 1, 2, 3)))
	look().wantText("#vms tbody tr:first-child td:nth-child(2)", "planned").wantText("#output", "written nothing yet")

	r.enter(fleet.PhaseApplying)
	r.begin(45*time.Second, 0, 1, 2)
	page = look().wantText("#state", "creating VMs").wantText("#vms tbody tr:nth-child(2) td:nth-child(2)", "being created for 45 s").wantNone(" left</dd>")
	page.wantText(".facts", "so far")
	r.done(0)
	page = look().wantText("#vms tbody tr:nth-child(1) td:nth-child(2)", "booting created in 45 s").wantText("#tally", "1 of 4 created").wantText(".facts", "less than a minute left")
	page.wantText("#vms tbody tr:nth-child(1) td:nth-child(3)", "45 s").wantText("#vms tbody tr:nth-child(1) td:nth-child(6)", "–")
	s.running("vm-3")
	s.must(r.Failing(t.Context(), r.ids(1)))
	look().wantText("#vms tbody tr:nth-child(2) td:nth-child(2)", "could not be created Terraform reports an error.").wantText("#tally", "1 of 4 created, 1 failed")
	s.must(s.store.StopOperation(t.Context(), op.ID))
	page = look().wantText("#state", "stopping").wantText("#now", "saves what it knows").wantText("#actions button[disabled]", "Stopping…")
	page.wantCount("#actions form", 0).wantNone(" left</dd>")
	r.done(2)
	s.must(r.Cancelled(t.Context(), r.ids(1, 3)))
	r.finish(fleet.OperationCancelled, "")

	page = look().wantText("#state", "stopped").wantText("title", "Stopped: Launch").wantText("#tally", "2 of 4 created, 2 not created").wantText(".facts", "took")
	page.wantText("#vms tbody tr:nth-child(4) td:nth-child(2)", "not created").wantText("#actions", "There is nothing to do")
	page.wantCount("#vms tbody a[id^=vm-]", 2).wantCount("#actions form", 0).wantNone(`http-equiv="refresh"`)
}

func TestOperation_FailedVMs(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	admin := s.adminBrowser()
	const hostile = "Error: <script>alert(1)</script> no capacity"
	long := hostile + strings.Repeat("\nmore of it", 20) + "\nthe last word"
	op := s.launch(5)
	path := operationPath + fmt.Sprint(op.ID)
	r := s.claim()
	r.enter(fleet.PhaseApplying)
	r.begin(time.Minute, 0, 1, 2, 3, 4)
	r.done(0, 1, 2)
	s.must(r.Note(t.Context(), r.ids(0), []string{"Made as g5.xlarge in us-west-2b."}))
	s.must(r.Note(t.Context(), r.ids(1), []string{"Made as g5.xlarge in us-west-2c.\nIn us-west-2a: no room"}))
	r.fail(long, 3)
	r.fail("quota exceeded", 4)
	r.enter(fleet.PhaseCleaning)
	admin.get(path).wantText("#state", "cleaning up").wantText("#now", "could not be created is removed").wantCount(`#actions form[action$="/retry"]`, 0)
	r.finish(fleet.OperationSucceeded, "")

	page := admin.get(path).want(http.StatusOK).wantText("#state", "done, except for 2 VMs").wantCount("#state .condition.bad", 1).wantCount("main script", 0)
	page.wantText("#tally", "3 of 5 created, 2 failed").wantCount(`progress[max="5"][value="3"]`, 1)
	page.wantText("#why-vm-4 summary", hostile+" more of it more of it …").wantText("#why-vm-4 pre", "the last word")
	page.wantText("#vms tbody tr:nth-child(1) p.why", "Made as g5.xlarge in us-west-2b.")
	page.wantText("#how-vm-2 summary", "Made as g5.xlarge in us-west-2c.").wantText("#how-vm-2 pre", "In us-west-2a: no room").wantCount("#vms tbody tr:nth-child(3) .why", 0)
	page.wantText("#vms tbody tr:nth-child(5) p.why", "quota exceeded").wantCount("details.why", 2)
	page.wantCount(`#actions form[method=post][action="`+"/api/operations/"+fmt.Sprint(op.ID)+`/retry"]`, 1).wantText("#actions", "the 2 that are not there")
	page.wantCount(`#actions a[href="/admin/instances/delete?hostname=vm-4&hostname=vm-5"]`, 1)
	if got := page.text(`#actions form button`); got != "Try the failed VMs again" {
		t.Errorf("the button says %q", got)
	}
	admin.get("/admin/instances/delete?hostname=vm-4&hostname=vm-5").wantText("form button", "Destroy 2 VMs")

	// The VMs' own pages, and what becomes of them.
	admin.get("/admin/instances/vm-4").wantText(".facts", "could not be created Try again or remove it from its operation's page.").wantText("#why pre", "the last word").
		wantCount(`.history a[href="`+path+`"]`, 1).wantCount("main script", 0).wantCount(`form[action$="/token"]`, 0)
	again, err := s.store.Retry(t.Context(), tester, op.ID)
	s.must(err)
	admin.get(path).wantText("#vms tbody tr:nth-child(4) td:nth-child(2)", "It is being tried again.").wantCount(`#actions form, #actions a`, 0)
	r = s.claim()
	r.begin(2*time.Minute, 0)
	r.done(0)
	r.fail("no capacity at all", 1)
	r.finish(fleet.OperationSucceeded, "")
	page = admin.get(path).wantText("#vms tbody tr:nth-child(4) td:nth-child(2)", "Tried again since: booting.").wantText("#actions", "the one that is not there")
	page.wantCount(`#actions a[href="/admin/instances/delete?hostname=vm-5"]`, 1)
	admin.get(operationPath+fmt.Sprint(again.ID)).wantText("#vms tbody tr:nth-child(2) .why", "no capacity at all").wantCount("#vms tr", 3)
	admin.get("/admin/instances/vm-5").wantText(".facts p.why", "no capacity at all") // the newer reason
	s.destroy("vm-5", "vm-1")
	page = admin.get(path).wantText("#vms tbody tr:nth-child(5) td:nth-child(2)", "Removed since.").wantText("#vms tbody tr:nth-child(1) td:nth-child(2)", "destroyed")
	page.wantText("#tally", "3 of 5 created, 1 destroyed since, 2 failed").wantCount("#actions form, #actions a", 0)
	page.wantCount(`#vms a[href="/admin/instances/vm-5"], #vms a[href="/admin/instances/vm-1"]`, 0)
}

func TestOperation_Failed(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	admin := s.adminBrowser()
	op := s.launch(2)
	r := s.claim()
	const problem = "main.tf:12: Unsupported argument: <b>typo</b>\nand a second line"
	r.fail(problem, 0)
	r.fail("something of its own", 1)
	r.finish(fleet.OperationFailed, problem)
	page := admin.get(operationPath+fmt.Sprint(op.ID)).wantText("#state", "failed").wantText("pre.reason", "<b>typo</b> and a second line")
	page.wantText("#vms tbody tr:nth-child(1) .why", "For the reason above.").wantText("#vms tbody tr:nth-child(2) .why", "something of its own")
	page.wantText("#actions", "the 2 that are not there")
	if !strings.Contains(page.body, "&lt;b&gt;typo&lt;/b&gt;\nand") {
		t.Error("the reason's lines are lost")
	}
	admin.get("/admin/operations").wantText("tbody tr:first-child .note", "<b>typo</b> and a second line")
	admin.get("/admin/instances").wantText("tbody tr:first-child .condition.bad", "could not be created")
}

func TestOperation_Destroy(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	admin := s.adminBrowser()
	s.made(4)
	one, op := s.destroy("vm-1"), s.destroy("vm-2", "vm-3", "vm-4")
	path := operationPath + fmt.Sprint(op.ID)
	admin.get(operationPath+fmt.Sprint(one.ID)).wantText("h1", "Destruction of vm-1").wantText("#actions details", "cost money").wantCount("#vms th[scope=col]", 2)
	r := s.claim()
	r.done(0) // there was no such machine any more
	r.finish(fleet.OperationSucceeded, "")
	admin.get(operationPath+fmt.Sprint(one.ID)).wantText("#state", "done").wantText("#vms tbody td", "destroyed").wantCount("#vms tbody .note, #vms tbody a[id^=vm-]", 0).
		wantCount(`progress[max="1"][value="1"]`, 1)

	r = s.claim()
	r.enter(fleet.PhaseApplying)
	r.begin(9*time.Second, 0, 1)
	admin.get(path).wantText("h1", "Destruction of 3 VMs").wantText("#state", "destroying VMs").wantText("#vms tbody tr:first-child td", "being destroyed for 9.").
		wantText("#now", "No participant can get one of them any more")
	r.done(0)
	r.fail("the machine does not go", 1)
	s.must(r.Cancelled(t.Context(), r.ids(2)))
	r.finish(fleet.OperationFailed, "1 of 3 machines could not be destroyed")
	page := admin.get(path).wantText("#tally", "1 of 3 destroyed, 1 failed, 1 not destroyed").wantText("#vms tbody tr:nth-child(1) td", "destroyed in 9.")
	page.wantText("#vms tbody tr:nth-child(2) td", "could not be destroyed the machine does not go").wantText("#vms tbody tr:nth-child(3) td", "The machine may still be there.")
	page.wantCount(`#actions form[action$="/retry"]`, 1).wantText("#actions", "Their machines may still be there").wantCount("#actions a", 0)

	// The overview says so, but not while a further try is under way.
	s.launch(1)
	r = s.claim()
	s.must(r.SetStrays(t.Context(), []string{"vm-10", "vm-3"}))
	r.finish(fleet.OperationFailed, "")
	admin.get("/admin").wantText(".notice.bad", "LabLink has no row for them: vm-3, vm-10.").wantCount(`.notice.bad a[href="/admin/operations"]`, 1)
	_, err := s.store.Retry(t.Context(), tester, op.ID)
	s.must(err)
	admin.get("/admin").wantText(".notice.bad", "LabLink has no row for them: vm-10.")

	other := newSite(t, makesVMs, func(c *config.Config) { c.Provider = config.ProviderAWS })
	other.made(2)
	other.destroy("vm-1")
	r = other.claim()
	r.fail("no", 0)
	r.finish(fleet.OperationFailed, "no")
	admin = other.adminBrowser()
	admin.get(operationPath+"2").wantText("#actions", "the provider local, which this server does not use").wantCount("#actions form", 0)
	admin.get("/admin/instances/vm-2").wantText(".actions", "with the provider local, which this server does not use").wantCount(`.actions a, form[action$="/replace"]`, 0)
	admin.get("/admin/instances").wantCount("tbody tr", 1).wantCount("input[type=checkbox]", 0)
}

func TestOperation_StartupTimes(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	op := s.launch(3)
	r := s.claim()
	for place, took := range []time.Duration{60 * time.Second, 40 * time.Second, 50 * time.Second} {
		r.begin(took, place)
		r.done(place)
	}
	r.finish(fleet.OperationSucceeded, "")
	s.started("vm-1", 20, 5)
	s.started("vm-2", 10, 5)
	page := s.adminBrowser().get(operationPath+fmt.Sprint(op.ID)).wantText(".facts", "median 70 s, slowest 85 s (vm-1), of the 2 that have started")
	page.wantText("#vms tbody tr:nth-child(1)", "60 s 20 s 5.0 s 85 s").wantText("#vms tbody tr:nth-child(3)", "50 s – – –")
	s.adminBrowser().get("/admin/instances/vm-3").wantText(".facts", "Terraform 50 s").wantNone("in all")
	s.adminBrowser().get("/admin/instances/vm-2").wantText(".facts", "Terraform 40 s, First boot (cloud-init) 10 s, Container 5.0 s; 55 s in all")
}

// The part with the output is read alone, and the others without it.
func TestOperation_Parts(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	op := s.launch(1)
	r := s.claim()
	s.must(r.Write(t.Context(), "the first line <b>\n"))
	path := operationPath + fmt.Sprint(op.ID)
	part := func(target string) *answer {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+path, http.NoBody)
		s.must(err)
		req.Header.Set("HX-Request", "true")
		req.Header.Set("HX-Target", target)
		return s.adminBrowser().send(req).want(http.StatusOK)
	}
	for _, target := range []string{"now", "actions", "vms"} {
		part(target).wantCount("#"+target+" > [data-version]", 1).wantNone("the first line")
	}
	before := part("output").wantText("#output > [data-version] pre", "the first line <b>").attr("#output > [data-version]", "data-version")
	if again := part("output").attr("#output > [data-version]", "data-version"); again != before {
		t.Error("the output is another one, though nothing was written")
	}
	s.adminBrowser().get(path).wantText("#raw:not([open]) #output pre", "the first line").wantCount("#output .help", 0)

	line := strings.Repeat("x", 99) + "\n"
	s.must(r.Write(t.Context(), strings.Repeat(line, 1000)+"the last line\n"))
	page := part("output").wantText("#output .help", "Only the end is shown").wantCount(`#output a[href="`+path+`/output"]`, 1).wantNone("the first line")
	if text := page.text("#output pre"); !strings.HasPrefix(text, strings.TrimSpace(line)+" ") || !strings.HasSuffix(text, "the last line") || len(text) > 64<<10 {
		t.Errorf("%d bytes: %.120q", len(text), text)
	}
	long := strings.Repeat("y", 70<<10) + "\n"
	s.must(r.Write(t.Context(), long))
	if text := part("output").text("#output pre"); len(text) < 60<<10 {
		t.Errorf("of a line that is longer than what is shown, %d bytes are", len(text))
	}
}

func TestOperation_Download(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	op := s.launch(1)
	path := operationPath + fmt.Sprint(op.ID) + "/output"
	headers := func(a *answer) {
		t.Helper()
		for name, want := range map[string]string{
			"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
			"Content-Disposition": fmt.Sprintf(`attachment; filename="lablink-operation-%d.txt"`, op.ID),
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
	empty := s.adminBrowser().get(path).want(http.StatusOK)
	headers(empty)
	if empty.body != "" {
		t.Errorf("got %q", empty.body)
	}
	r := s.claim()
	want := ""
	for n := range 30 {
		lines := strings.Repeat(fmt.Sprintf("%d <script>alert(1)</script> ä\n", n), 1000)
		s.must(r.Write(t.Context(), lines))
		want += lines
	}
	whole := s.adminBrowser().get(path).want(http.StatusOK)
	headers(whole)
	if whole.body != want {
		t.Errorf("%d bytes, want %d", len(whole.body), len(want))
	}
	s.browser().get(path).want(http.StatusUnauthorized).wantNone("script>alert")
	s.store.Close()
	s.adminBrowser().get(path).want(http.StatusInternalServerError).wantText("h1", "Something went wrong")
}

// A download that cannot go on is cut, so that nobody takes it for a whole one.
func TestOperation_DownloadIsCut(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	op := s.launch(1)
	r := s.claim()
	for range 80 {
		s.must(r.Write(t.Context(), strings.Repeat("0123456789abcdef\n", 10_000)))
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+operationPath+fmt.Sprint(op.ID)+"/output", http.NoBody)
	s.must(err)
	req.SetBasicAuth("admin", adminPassword)
	resp, err := s.browser().client.Do(req)
	s.must(err)
	defer resp.Body.Close()
	_, err = io.ReadFull(resp.Body, make([]byte, 1000))
	s.must(err)
	s.endConnections() // as when the database restarts
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("after %d bytes, the answer ended as if it were whole", n)
	}
}

func TestOperations(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	admin := s.adminBrowser()
	admin.get("/admin/operations").want(http.StatusOK).wantText(".notice", "Nothing has been created or destroyed yet").wantCount(`.notice a[href="/admin/create"]`, 1)
	s.made(3)
	s.destroy("vm-2")
	s.launch(2)
	s.claim()
	page := admin.get("/admin/operations").want(http.StatusOK).wantCount("tbody tr", 3).wantCount("#operations > [data-version]", 1)
	page.wantText("tbody tr:nth-child(1)", "Launch of 2 VMs operation 3 waiting for its turn 0 of 2 created a moment ago –")
	page.wantText("tbody tr:nth-child(2)", "Destruction of vm-2 operation 2 preparing 0 of 1 destroyed a moment ago")
	page.wantText("tbody tr:nth-child(3)", "Launch of 3 VMs operation 1 done 3 of 3 created").wantCount(`tbody a[href="/admin/operations/1"]`, 1).wantCount("section .help", 0)
	for range 50 {
		s.launch(1)
	}
	admin.get("/admin/operations").wantCount("tbody tr", 50).wantText("#operations .help", "the newest 50")
	admin.get("/admin").wantText("#running + ul li:last-child", "Destruction of vm-2 preparing")
	newSite(t).adminBrowser().get("/admin/operations").want(http.StatusOK).wantCount(".notice a", 0)
}

// The buttons post to the API; its errors lead back to the operation.
func TestOperation_RefusedButtons(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	for _, c := range []struct {
		e    *fleet.Error
		back string
		nav  int
	}{
		{fleet.Errorf(fleet.Conflict, "it is over"), "/admin/operations/7", 1},
		{fleet.Errorf(fleet.NotFound, "there is no operation 7"), "/admin/operations", 1},
		{fleet.Errorf(fleet.Unauthenticated, "log in"), "/", 0},
		{fleet.Errorf(fleet.Forbidden, "from elsewhere"), "/", 0},
	} {
		write := func(rw http.ResponseWriter, r *http.Request, status int, e *fleet.Error) {
			r.SetPathValue("id", "7")
			s.web.Error(rw, r, status, e)
		}
		s.refusal(write, "/api/operations/7/stop", c.e).want(httpx.Status(c.e.Kind)).wantCount(`main a[href="`+c.back+`"]`, 1).wantCount("nav", c.nav)
	}
}
