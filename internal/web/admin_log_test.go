package web_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// writes appends lines to a VM's log, a second apart.
func (s *site) writes(name string, lines ...store.NewLogLine) {
	s.t.Helper()
	for i := range lines {
		if lines[i].Source == "" {
			lines[i].Source = "console"
		}
		if lines[i].At.IsZero() {
			lines[i].At = time.Date(2026, 5, 4, 12, 0, i, 0, time.UTC)
		}
	}
	_, err := s.store.AddLogs(s.t.Context(), s.vm(name).ID, store.NewLogLines{Lines: lines})
	s.must(err)
}

// numbered are n lines.
func numbered(n int) (lines []store.NewLogLine) {
	for i := 1; i <= n; i++ {
		lines = append(lines, store.NewLogLine{Text: fmt.Sprintf("line %04d", i)})
	}
	return lines
}

func (s *site) cursors(name string) (cursors []int64) {
	s.t.Helper()
	lines, err := s.store.LogLines(s.t.Context(), s.vm(name).ID, store.LogQuery{})
	s.must(err)
	for _, l := range lines {
		cursors = append(cursors, l.Cursor)
	}
	return cursors
}

func TestLog(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	s.register(false, "vm-1")
	admin := s.adminBrowser()
	s.browser().get("/admin/logs/vm-1").want(http.StatusUnauthorized)
	admin.get("/admin/logs/nobody").want(http.StatusNotFound)
	admin.get("/admin/logs/vm-1").want(http.StatusOK).wantText(".empty", "has written nothing yet").wantCount("#log li", 0)

	s.writes("vm-1", store.NewLogLine{Text: "<script>alert(1)</script> & more", Level: fleet.LevelError, Source: "boot"},
		store.NewLogLine{Text: "all is well", Level: fleet.LevelInfo}, store.NewLogLine{Text: "disk Nearly full, NEARLY", Level: fleet.LevelWarn},
		store.NewLogLine{Text: "next day", At: time.Date(2026, 5, 5, 0, 0, 0, 0, time.UTC)})
	page := admin.get("/admin/logs/vm-1").want(http.StatusOK).wantCount("#log li", 4).wantCount("#log .day", 2).wantCount("#log script", 0).wantCount(".empty", 0)
	page.wantText("#log li.is-error .text", "<script>alert(1)</script> & more").wantText("#log li.is-error .level", "error").wantText("#log li.is-error .source", "boot")
	page.wantText("#log li.is-error time", "12:00:00.000").wantText("#log li:first-child .day", "Mon 4 May 2026")
	page.wantCount(`nav a[href="/admin/logs"][aria-current=page]`, 1).wantCount(`.logbox[data-stream]`, 1).wantCount("a.older", 0).wantCount("a[rel=next]", 0)

	admin.get("/admin/logs/vm-1?q=nearly").wantCount("#log li", 1).wantCount("#log mark", 2).wantText("#log .text", "disk Nearly full, NEARLY").wantCount(`input[name=q][value=nearly]`, 1)
	admin.get("/admin/logs/vm-1?level=error").wantCount("#log li", 1).wantCount("#level option[selected][value=error]", 1)
	admin.get("/admin/logs/vm-1?level=warn").wantCount("#log li", 2)
	admin.get("/admin/logs/vm-1?source=boot").wantCount("#log li", 1).wantCount("#source option", 3)
	admin.get("/admin/logs/vm-1?q=nothing+like+it").wantCount("#log li", 0).wantText(".empty", "No line fits")
	admin.get("/admin/logs/vm-1?level=shout").wantText(".notice.bad", "shout").wantCount("#log li", 4)
	admin.get("/admin/logs/vm-1?q="+strings.Repeat("%25", 20)).want(http.StatusOK).wantCount("#log li", 0)

	admin.get("/admin/logs/vm-1?at=2026-05-04T12:00:02").wantCount("#log li", 2)
	admin.get("/admin/logs/vm-1?at=2026-05-04T14:00:02&offset=-120").wantCount("#log li", 2)
	admin.get("/admin/logs/vm-1?at=2027-01-01T00:00").wantCount("#log li", 4).wantText(".notice", "These are the last lines")
	admin.get("/admin/logs/vm-1?at=yesterday").wantText(".notice.bad", "not a time").wantCount("#log li", 4)

	for _, path := range []string{"/admin/instances", "/admin/instances/vm-1"} {
		if got := admin.get(path).want(http.StatusOK); !strings.Contains(got.body, `href="/admin/logs/vm-1"`) {
			t.Errorf("%s has no link to the log", path)
		}
	}
	admin.get("/admin/instances/vm-1").wantCount("#tail li", 4).wantText("#tail li.is-error .text", "<script>")
}

// A long log is read page by page, in both directions, and each line has an address.
func TestLog_Pages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.register(false, "vm-1")
	admin := s.adminBrowser()
	s.writes("vm-1", numbered(1200)...)
	cursors := s.cursors("vm-1")
	texts := func(a *answer) (first, last string) {
		t.Helper()
		return a.want(http.StatusOK).text("#log li:first-child .text"), a.text("#log li:last-child .text")
	}
	want := func(a *answer, first, last int, older, newer bool) {
		t.Helper()
		f, l := texts(a)
		if f != fmt.Sprintf("line %04d", first) || l != fmt.Sprintf("line %04d", last) {
			t.Errorf("%q to %q, want %d to %d", f, l, first, last)
		}
		for selector, there := range map[string]bool{"a.older[rel=prev]": older, "a[rel=next]": newer, ".logbox[data-stream]": !newer} {
			a.wantCount(selector, map[bool]int{true: 1, false: 0}[there])
		}
	}
	newest := admin.get("/admin/logs/vm-1")
	want(newest, 701, 1200, true, false)
	before := admin.get(newest.attr("a.older", "href"))
	want(before, 201, 700, true, true)
	first := admin.get(before.attr("a.older", "href"))
	want(first, 1, 200, false, true)
	want(admin.get(first.attr("a[rel=next]", "href")), 201, 700, true, true)
	want(admin.get(before.attr("a[rel=next]", "href")), 701, 1200, true, false)

	line := admin.get(fmt.Sprintf("/admin/logs/vm-1?line=%d", cursors[599]))
	want(line, 350, 849, true, true)
	line.wantCount("#log .marked", 1).wantText("#log .marked .text", "line 0600").wantCount(fmt.Sprintf("#l%d.marked", cursors[599]), 1)
	want(admin.get(fmt.Sprintf("/admin/logs/vm-1?line=%d", cursors[0])), 1, 250, false, true)
	want(admin.get(fmt.Sprintf("/admin/logs/vm-1?line=%d", cursors[1199])), 950, 1200, true, false)
	admin.get(fmt.Sprintf("/admin/logs/vm-1?line=%d&q=0601", cursors[599])).wantText(".notice", "does not fit the filter").wantCount("#log li", 1)

	file := admin.get("/admin/logs/vm-1/download?q=line+00")
	lines := strings.Split(strings.TrimSuffix(file.body, "\n"), "\n")
	if len(lines) != 99 || lines[0] != "2026-05-04T12:00:00.000Z - console line 0001" || !strings.Contains(file.header.Get("Content-Disposition"), `"lablink-vm-1.log"`) {
		t.Errorf("%d lines, the first %q, %v", len(lines), lines[0], file.header)
	}
	admin.get("/admin/logs/nobody/download").want(http.StatusNotFound)
}

// A live page gets each line once, also after its connection was cut.
func TestLog_Live(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.register(false, "vm-1")
	admin := s.adminBrowser()
	s.writes("vm-1", numbered(3)...)
	address := admin.get("/admin/logs/vm-1").attr(".logbox", "data-stream")
	live := admin.listen(address)
	s.writes("vm-1", store.NewLogLine{Text: "<b>new</b>", Level: fleet.LevelError})
	live.next("lines").wantCount("li", 1).wantText("li.is-error .text", "<b>new</b>")
	s.writes("vm-1", store.NewLogLine{Text: "five"}, store.NewLogLine{Text: "six"})
	live.next("lines").wantCount("li", 2)
	live.stop()

	cursors := s.cursors("vm-1")
	again := admin.resume(address, strconv.FormatInt(cursors[4], 10))
	again.next("lines").wantCount("li", 1).wantText("li .text", "six")

	filtered := admin.listen("/admin/logs/vm-1/events?level=error&after=" + strconv.FormatInt(cursors[5], 10))
	s.writes("vm-1", store.NewLogLine{Text: "boring"}, store.NewLogLine{Text: "bad", Level: fleet.LevelError})
	filtered.next("lines").wantCount("li", 1).wantText("li .text", "bad")

	// Too much to read at once.
	flood := admin.listen("/admin/logs/vm-1/events?after=" + strconv.FormatInt(cursors[0], 10))
	flood.next("lines")
	s.writes("vm-1", numbered(1500)...)
	gap := flood.next("lines").wantText("li.gap", "500 lines that came before").wantCount("li[id]", 1000).wantText("li:last-child .text", "line 1500")
	admin.get(gap.attr("li.gap a", "href")).want(http.StatusOK).wantText("#log li:first-child .text", "line 0001")
}

// The log of a machine that is destroyed can still be read for a while.
func TestLog_Destroyed(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	s.made(1)
	s.writes("vm-1", numbered(1)...)
	s.destroy("vm-1")
	admin := s.adminBrowser()
	admin.get("/admin/logs/vm-1").want(http.StatusOK).wantText(".notice", "is destroyed. Its log is kept until").wantCount("#log li", 1).
		wantCount(`a[href="/admin/instances/vm-1"]`, 0)
}

// An admin sees which machines are in trouble.
func TestLogs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.register(false, "vm-1", "vm-2", "vm-3")
	admin := s.adminBrowser()
	s.browser().get("/admin/logs").want(http.StatusUnauthorized)
	admin.get("/admin/logs").want(http.StatusOK).wantText(".notice.good", "No machine has written an error in the last 10 minutes")
	bad := store.NewLogLine{Text: "<i>broken</i> " + strings.Repeat("long ", 60), Level: fleet.LevelError, At: time.Now()}
	s.writes("vm-1", bad)
	s.writes("vm-2", bad, bad, store.NewLogLine{Text: "the last", Level: fleet.LevelError, At: time.Now()})
	s.writes("vm-3", numbered(3)...)
	page := admin.get("/admin/logs").want(http.StatusOK).wantText(".summary", "4 errors of 2 machines in the last 10 minutes").wantCount("tbody tr", 2).wantCount("tbody i", 0)
	page.wantText("tbody tr:first-child th", "vm-2").wantText("tbody tr:first-child .tally", "3").wantText("tbody tr:first-child .line", "the last")
	if got := page.text("tbody tr:last-child .line"); !strings.HasPrefix(got, "<i>broken</i>") || !strings.HasSuffix(got, "…") {
		t.Errorf("a long error: %q", got)
	}
	admin.get(page.attr("tbody tr:first-child th a", "href")).want(http.StatusOK).wantCount("#log li", 3)
	admin.get(page.attr("tbody tr:first-child .line", "href")).want(http.StatusOK).wantText("#log .marked .text", "the last")
	admin.get("/admin/logs?within=24h").want(http.StatusOK).wantText(".summary", "24 hours").wantCount(`a[aria-current=true][href="/admin/logs?within=24h"]`, 1)
	admin.get("/admin/logs?within=forever").want(http.StatusOK).wantText(".summary", "10 minutes")
}
