package web_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/andybalholm/cascadia"
	"github.com/jackc/pgx/v5"
	"golang.org/x/net/html"

	"lablink/internal/awsaccount"
	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/httpx"
	"lablink/internal/store"
	"lablink/internal/testkit"
	"lablink/internal/wait"
	"lablink/internal/web"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const adminPassword = "correct horse"

var tester = fleet.Actor{Kind: "admin", Address: "192.0.2.1"}

// site is a whole server of pages with a database of its own.
type site struct {
	t        *testing.T
	database string
	web      *web.Web
	store    *store.Store
	feed     *wait.Feed
	server   *httptest.Server

	closeFeed func() // ends all streams
}

func newSite(t *testing.T, change ...func(*config.Config)) *site {
	t.Helper()
	return newSiteOn(t, nil, false, change...)
}

// newSiteOn is newSite on AWS.
func newSiteOn(t *testing.T, account *awsaccount.Account, enter bool, change ...func(*config.Config)) *site {
	t.Helper()
	database := testkit.DB(t)
	st, err := store.Open(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	cfg := &config.Config{Provider: config.ProviderNone, Auth: config.Auth{Machines: config.MachineToken}, Limits: config.Limits{
		MaxRegistered: 2000, RequestVMPerMinute: 6000, RequestVMBurst: 3000, PinFailures: 5, PinWindow: time.Hour,
	}}
	for _, f := range change {
		f(cfg)
	}
	feed := wait.NewFeed()
	s := &site{t: t, database: database, store: st, feed: feed}
	s.web, err = web.New(web.Options{
		Store: st, Feed: feed, Config: cfg, Admin: s.requireAdmin, Logger: slog.New(slog.DiscardHandler),
		RequestLimit: httpx.NewLimiter(cfg.Limits.RequestVMPerMinute, cfg.Limits.RequestVMBurst), AWS: account, EnterAWS: enter,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.web.Unremembering()
	mux := http.NewServeMux()
	s.web.Routes(mux)
	mux.Handle("/", s.web.NotFound())
	protected, err := httpx.Protect(mux, cfg.Server.PublicURL, 64<<10, s.web.Error)
	if err != nil {
		t.Fatal(err)
	}
	s.server = httptest.NewServer(protected)
	// Streams end first, as in the real server.
	t.Cleanup(s.server.Close)
	s.closeFeed = sync.OnceFunc(feed.Close)
	t.Cleanup(s.closeFeed)
	return s
}

func (s *site) requireAdmin(next http.Handler, write httpx.ErrorWriter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != adminPassword {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			httpx.WriteError(w, r, fleet.Errorf(fleet.Unauthenticated, "Log in as the organiser to see this page."), write)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// register makes VMs that are free: they run, and wait if asked to.
func (s *site) register(waiting bool, names ...string) {
	s.t.Helper()
	ctx := s.t.Context()
	tokens := make([][]byte, len(names))
	for i := range names {
		tokens[i] = fleet.HashToken(fleet.NewToken())
	}
	s.must(s.store.RegisterVMs(ctx, tester, names, tokens, 10_000))
	for _, name := range names {
		s.must(s.store.SetStatus(ctx, tester, name, fleet.StatusRunning))
	}
	if waiting {
		s.must(s.store.Heartbeat(ctx, 1))
		for _, name := range names {
			id := s.vm(name).ID
			_, err := s.store.OpenPoll(ctx, store.Poll{VM: id, Replica: 1, ID: id})
			s.must(err)
		}
	}
}

func (s *site) vm(name string) fleet.VM {
	s.t.Helper()
	v, err := s.store.VM(s.t.Context(), name)
	s.must(err)
	return v
}

// age makes a VM's seat change longer ago.
func (s *site) age(name string, d time.Duration) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.database)
	s.must(err)
	defer conn.Close(s.t.Context())
	_, err = conn.Exec(s.t.Context(), `UPDATE vms SET seat_changed = now() - make_interval(secs => $2) WHERE hostname = $1`, name, d.Seconds())
	s.must(err)
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// deliver takes a VM's code as its agent does, and returns the delivery.
func (s *site) deliver(name string) int64 {
	s.t.Helper()
	vm := s.vm(name)
	d, err := s.store.CheckPoll(s.t.Context(), store.Poll{VM: vm.ID, Replica: 1, ID: vm.ID})
	s.must(err)
	if d == nil {
		s.t.Fatalf("%s has nothing to fetch", name)
	}
	s.must(s.store.Delivered(s.t.Context(), vm.ID, d.ID))
	return d.ID
}

// report is the agent's word of what became of a code.
func (s *site) report(name string, e fleet.SeatEvent, reason string) {
	s.t.Helper()
	s.must(s.store.Acknowledge(s.t.Context(), fleet.Actor{Kind: "vm"}, name, s.deliver(name), e, reason))
}

// clean is the agent's word of what became of a clean-up.
func (s *site) clean(name string, e fleet.SeatEvent, reason string) {
	s.t.Helper()
	vm := s.vm(name)
	d, err := s.store.CheckPoll(s.t.Context(), store.Poll{VM: vm.ID, Replica: 1, ID: vm.ID})
	s.must(err)
	s.must(s.store.Acknowledge(s.t.Context(), fleet.Actor{Kind: "vm"}, name, d.ID, e, reason))
}

// browser is one participant's browser, with its cookies.
type browser struct {
	s      *site
	client *http.Client
	admin  bool
	accept string
}

func (s *site) browser() *browser {
	jar, err := cookiejar.New(nil)
	s.must(err)
	transport := &http.Transport{}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &browser{s: s, client: &http.Client{
		Jar: jar, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// visitor is a browser that has opened the start page.
func (s *site) visitor() *browser {
	b := s.browser()
	b.get("/")
	return b
}

func (s *site) adminBrowser() *browser {
	b := s.browser()
	b.admin = true
	return b
}

// answer is what a browser got.
type answer struct {
	t        *testing.T
	status   int
	header   http.Header
	body     string
	location string
}

func (b *browser) do(method, path, contentType string, body io.Reader) *answer {
	b.s.t.Helper()
	r, err := http.NewRequestWithContext(b.s.t.Context(), method, b.s.server.URL+path, body)
	b.s.must(err)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	accept := b.accept
	if accept == "" {
		accept = "text/html"
	}
	r.Header.Set("Accept", accept)
	return b.send(r)
}

func (b *browser) send(r *http.Request) *answer {
	b.s.t.Helper()
	if b.admin {
		r.SetBasicAuth("admin", adminPassword)
	}
	if b.accept == "" { // a browser that goes to a page
		r.Header.Set("Upgrade-Insecure-Requests", "1")
	}
	resp, err := b.client.Do(r)
	if err != nil {
		b.s.t.Error(err)
		return &answer{t: b.s.t}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.s.t.Error(err)
	}
	return &answer{b.s.t, resp.StatusCode, resp.Header, string(data), resp.Header.Get("Location")}
}

func (b *browser) get(path string) *answer {
	b.s.t.Helper()
	return b.do(http.MethodGet, path, "", nil)
}

// post sends a form of names and values in turn.
func (b *browser) post(path string, pairs ...string) *answer {
	b.s.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return b.do(http.MethodPost, path, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
}

// request asks for a VM.
func (b *browser) request(email, code string) *answer {
	b.s.t.Helper()
	return b.post("/api/request_vm", "email", email, "crd_command", fleet.CommandFor(code))
}

// seated asks for a VM, must get one, and returns the seat page.
func (b *browser) seated(email, code string) *answer {
	b.s.t.Helper()
	b.get("/")
	b.request(email, code).wantRedirect("/seat")
	return b.get("/seat").want(http.StatusOK)
}

func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Errorf("status %d, want %d; body:\n%s", a.status, status, a.body)
	}
	return a
}

func (a *answer) wantRedirect(to string) *answer {
	a.t.Helper()
	if a.status != http.StatusSeeOther || a.location != to {
		a.t.Errorf("status %d to %q, want 303 to %q; body:\n%s", a.status, a.location, to, a.body)
	}
	return a
}

// all returns the elements that fit a selector.
func (a *answer) all(selector string) []*html.Node {
	a.t.Helper()
	doc, err := html.Parse(strings.NewReader(a.body))
	if err != nil {
		a.t.Fatal(err)
	}
	return cascadia.QueryAll(doc, cascadia.MustCompile(selector))
}

// wantText checks the text of the only element that fits a selector.
func (a *answer) wantText(selector, want string) *answer {
	a.t.Helper()
	found := a.all(selector)
	if len(found) != 1 {
		a.t.Errorf("%d elements %q, want 1, in:\n%s", len(found), selector, a.body)
		return a
	}
	if got := textOf(found[0]); !strings.Contains(got, want) {
		a.t.Errorf("%s is %q, want %q in it", selector, got, want)
	}
	return a
}

func (a *answer) text(selector string) string {
	a.t.Helper()
	found := a.all(selector)
	if len(found) != 1 {
		a.t.Errorf("%d elements %q, want 1, in:\n%s", len(found), selector, a.body)
		return ""
	}
	return textOf(found[0])
}

func (a *answer) attr(selector, name string) string {
	a.t.Helper()
	for _, n := range a.all(selector) {
		for _, at := range n.Attr {
			if at.Key == name {
				return at.Val
			}
		}
	}
	return ""
}

func (a *answer) wantCount(selector string, n int) *answer {
	a.t.Helper()
	if found := a.all(selector); len(found) != n {
		a.t.Errorf("%d elements %q, want %d, in:\n%s", len(found), selector, n, a.body)
	}
	return a
}

func (a *answer) wantNone(secrets ...string) *answer {
	a.t.Helper()
	for _, secret := range secrets {
		if strings.Contains(a.body, secret) {
			a.t.Errorf("%q is in:\n%s", secret, a.body)
		}
	}
	return a
}

func textOf(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			b.WriteString(c.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// code returns a code that no other test step used.
func code(n int) string { return fmt.Sprintf("4/0AbCdEf-secret%04d", n) }
