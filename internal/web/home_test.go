package web_test

import (
	"net/http"
	"strings"
	"testing"

	"lablink/internal/config"
	"lablink/internal/fleet"
)

func TestHome(t *testing.T) {
	t.Parallel()

	t.Run("counts free VMs and offers the form", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.register(true, "lab-1", "lab-2")
		page := s.browser().get("/").want(http.StatusOK)
		page.wantText(".count", "2 VMs are free").wantText("#gate button", "Get my VM").wantCount("#gate button[disabled]", 0)
		page.wantCount(`form[method="post"][action="/api/request_vm"] input[name="email"]`, 1).wantCount(`form textarea[name="crd_command"]`, 1)
		if got := page.header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("Cache-Control %q: the page depends on a cookie", got)
		}
	})

	t.Run("says why none is free", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		b := s.browser()
		b.get("/").wantText("#notice", "No VM has been created yet").wantCount("#gate button[disabled]", 1)
		s.register(true, "lab-1")
		b.seated("ada@example.org", code(1))
		s.browser().get("/").wantText("#notice", "The only VM is taken").wantText(".count", "0 VMs are free")
	})

	t.Run("leads a browser that has a VM to it", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.register(true, "lab-1")
		b := s.browser()
		b.get("/").wantCount(`a[href="/seat"]`, 0)
		b.seated("ada@example.org", code(1))
		b.get("/").wantText(".notice.good", "lab-1").wantCount(`.notice a[href="/seat"]`, 1)
	})

	t.Run("gives the browser one cookie that scripts cannot read", func(t *testing.T) {
		t.Parallel()
		for publicURL, secure := range map[string]bool{"": false, "https://lab.example.org": true} {
			s := newSite(t, func(c *config.Config) { c.Server.PublicURL = publicURL })
			b := s.browser()
			got := b.get("/").header.Get("Set-Cookie")
			for _, want := range []string{"lablink_browser=", "Path=/", "HttpOnly", "SameSite=Lax", "Max-Age=7776000"} {
				if !strings.Contains(got, want) {
					t.Errorf("Set-Cookie %q lacks %q", got, want)
				}
			}
			if strings.Contains(got, "Secure") != secure {
				t.Errorf("public URL %q: Set-Cookie %q", publicURL, got)
			}
			if again := b.get("/").header.Get("Set-Cookie"); !secure && again != "" {
				t.Errorf("a second cookie: %q", again)
			}
		}
	})

	t.Run("replaces a cookie that is not ours", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+"/", nil)
		r.AddCookie(&http.Cookie{Name: "lablink_browser", Value: "short"})
		resp, err := s.browser().client.Do(r)
		s.must(err)
		resp.Body.Close()
		if resp.Header.Get("Set-Cookie") == "" {
			t.Error("kept it")
		}
	})
}

func TestHomeFollows(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.web.Quicken()
	st := s.browser().listen("/events")
	st.next("count").wantText("strong", "0")
	st.next("gate").wantCount("button[disabled]", 1)

	s.register(true, "lab-1")
	s.feed.Publish("lab-1")
	st.next("count").wantText("strong", "1")
	st.next("notice").wantText("p", "A VM is free for you")
	st.next("gate").wantCount("button[disabled]", 0).wantText("button", "Get my VM")

	s.browser().seated("ada@example.org", code(1))
	s.feed.Publish("lab-1")
	st.next("count").wantText("strong", "0")

	s.closeFeed()
	st.wantEnd()
}

func TestCheckCommand(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.register(true, "lab-1")
	owner := s.browser()
	owner.seated("ada@example.org", code(1))
	b := s.browser()
	for text, want := range map[string]string{
		fleet.CommandFor(code(2)):                 ".fine",
		code(2):                                   ".fine",
		fleet.CommandFor("not-like-googles"):      ".warning",
		fleet.CommandFor(code(1)):                 ".error",
		"https://remotedesktop.google.com/":       ".error",
		"DISPLAY= start-host --name=x":            ".error",
		strings.Repeat("x", 10_000):               ".error",
		fleet.CommandFor(code(2)) + "; rm -rf ~/": ".error",
	} {
		b.post("/check-command", "crd_command", text).want(http.StatusOK).wantCount(want, 1).wantCount("p", 1)
	}
	for _, nothing := range []string{"", " \n"} {
		b.post("/check-command", "crd_command", nothing).want(http.StatusOK).wantCount("p", 0)
	}
	used, err := s.store.CodeUsed(t.Context(), code(2))
	if used || err != nil {
		t.Errorf("a check used the code (%v)", err)
	}
	if free, err := s.store.FreeCount(t.Context()); free != 0 || err != nil {
		t.Errorf("%d free, %v", free, err)
	}
}

func TestCheckCommandIsLimited(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.browser()
	for range 1500 {
		if b.post("/check-command", "crd_command", "").status == http.StatusTooManyRequests {
			return
		}
	}
	t.Error("1500 checks at once passed")
}

func TestStatic(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.browser()
	page := b.get("/")
	for selector, contentType := range map[string]string{
		`link[rel="stylesheet"]`: "text/css; charset=utf-8",
		`script[src*="app.js"]`:  "text/javascript; charset=utf-8",
		`script[src*="htmx"]`:    "text/javascript; charset=utf-8",
	} {
		address := page.attr(selector, "href") + page.attr(selector, "src")
		got := b.get(address).want(http.StatusOK)
		if got.header.Get("Content-Type") != contentType || !strings.Contains(got.header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %v", address, got.header)
		}
		name, _, _ := strings.Cut(address, "?")
		if old := b.get(name + "?v=old").want(http.StatusOK); strings.Contains(old.header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: another version would stay for ever", name)
		}
	}
	b.get("/favicon.ico").want(http.StatusOK)
	b.get("/static/nothing.css").want(http.StatusNotFound)
	b.get("/static/../web.go").want(http.StatusTemporaryRedirect)
}

func TestNotFound(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.browser().get("/nothing").want(http.StatusNotFound).wantText("h1", "does not exist").wantCount(`main a[href="/"]`, 1)
	data := s.browser().get("/api/nothing").want(http.StatusNotFound)
	if data.header.Get("Content-Type") != "application/json" || !strings.Contains(data.body, `"error"`) {
		t.Errorf("got %v %s", data.header, data.body)
	}
}

func TestBrokenDatabaseIsAFriendlyPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.browser()
	s.store.Close()
	b.get("/").want(http.StatusInternalServerError).wantText("h1", "Something went wrong").wantNone("closed pool")
	b.accept = "application/json"
	b.request("ada@example.org", code(1)).want(http.StatusInternalServerError).wantNone("closed pool", code(1))
}

func TestCrossSiteFormsAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.server.URL+"/seat/forget", nil)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := s.browser().client.Do(r)
	s.must(err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", resp.StatusCode)
	}
}
