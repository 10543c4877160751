// Package web serves the pages that people see: the participant's and the
// admin's. Every page works without script; with it, pages follow what happens.
//
// A page is one template file and one view struct, rendered into memory before
// anything is sent. What a page shows of the fleet is read from the store each
// time; package wait only says when to read again.
package web

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"lablink/internal/awsaccount"
	"lablink/internal/config"
	"lablink/internal/httpx"
	"lablink/internal/store"
	"lablink/internal/wait"
)

// Options are what the pages depend on.
type Options struct {
	Store        *store.Store
	Feed         *wait.Feed
	Config       *config.Config
	Admin        func(http.Handler, httpx.ErrorWriter) http.Handler // lets only the admin through
	Logger       *slog.Logger                                       // of what no request causes
	RequestLimit *httpx.Limiter                                     // of forms that participants send, by address
	AWS          *awsaccount.Account                                // nil unless VMs are made there
	EnterAWS     bool                                               // its credentials may be entered
}

// Web is all pages. It is safe for concurrent use.
type Web struct {
	store      *store.Store
	feed       *wait.Feed
	cfg        *config.Config
	admin      func(http.Handler, httpx.ErrorWriter) http.Handler
	requests   *httpx.Limiter
	checks     *httpx.Limiter
	aws        *awsaccount.Account
	enterAWS   bool
	assets     *assets
	pages      pages
	brokenPage []byte
	vacant     *vacancies
	home       *caster
	times      times
}

// times are how fast pages follow. Tests make them shorter.
type times struct {
	homeEvery  time.Duration // the home page changes at most so often
	adminEvery time.Duration // the admin's tables are read again at most so often
	adminTick  time.Duration // and at least so often: last seen and waiting do not notify
	seatTick   time.Duration // a seat is read again at least so often while its VM must fetch something
	idleTick   time.Duration // and everything else, should a notification be lost
	logTick    time.Duration // a log that somebody watches is read so often
	keepAlive  time.Duration // proxies cut streams that are silent for long
	grace      time.Duration // a VM between two polls is not called absent
}

// checksPerMinute bounds the checks while typing: two of them for each of 150
// people in the same few seconds, behind one address, must pass.
const checksPerMinute, checksBurst = 3000, 1000

// New parses the templates and returns the pages.
func New(o Options) (*Web, error) {
	w := &Web{
		store: o.Store, feed: o.Feed, cfg: o.Config, admin: o.Admin, requests: o.RequestLimit,
		checks: httpx.NewLimiter(checksPerMinute, checksBurst), aws: o.AWS, enterAWS: o.EnterAWS,
		times: times{
			homeEvery: 250 * time.Millisecond, adminEvery: time.Second, adminTick: 5 * time.Second,
			seatTick: 5 * time.Second, idleTick: 30 * time.Second, logTick: 500 * time.Millisecond, keepAlive: 15 * time.Second, grace: 5 * time.Second,
		},
	}
	var err error
	if w.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	if w.pages, err = parsePages(w.assets); err != nil {
		return nil, err
	}
	if w.brokenPage, err = w.renderBroken(); err != nil {
		return nil, err
	}
	w.vacant = &vacancies{read: w.readVacancy, keep: w.times.homeEvery}
	w.home = newCaster(w.feed, w.times.homeEvery, w.times.idleTick, w.homeEvents)
	w.home.failed = func(err error) { o.Logger.Warn("live start page not rendered", "error", err) }
	return w, nil
}

// Routes registers every page.
func (w *Web) Routes(mux *http.ServeMux) {
	stream := func(pattern string, h httpx.Handler) { mux.Handle(pattern, httpx.Adapt(h, w.Error)) }
	participant := func(pattern string, h httpx.Handler) { stream(pattern, httpx.Bounded(h)) }
	participant("GET /{$}", w.getHome)
	stream("GET /events", w.getHomeEvents)
	participant("POST /api/request_vm", w.postRequestVM)
	participant("POST /check-command", w.postCheckCommand)
	participant("GET /seat", w.getSeat)
	stream("GET /seat/events", w.getSeatEvents)
	participant("POST /seat/code", w.postSeatCode)
	participant("GET /seat/find", w.getFind)
	participant("POST /seat/find", w.postFind)
	participant("POST /seat/forget", w.postForget)
	participant("GET /static/{file...}", w.getStatic)
	participant("GET /favicon.ico", w.getFavicon)
	participant("GET /seat/code", goTo("/seat"))
	participant("GET /seat/forget", goTo("/"))

	adminStream := func(pattern string, h httpx.Handler) { mux.Handle(pattern, w.admin(httpx.Adapt(h, w.Error), w.Error)) }
	admin := func(pattern string, h httpx.Handler) { adminStream(pattern, httpx.Bounded(h)) }
	admin("GET /admin", w.getOverview)
	admin("GET /admin/instances", w.getInstances)
	adminStream("GET /admin/instances/events", w.getAdminEvents)
	admin("GET /admin/instances/register", w.getRegister)
	admin("POST /admin/instances/register", w.postRegister)
	admin("GET /admin/instances/delete", w.getDelete)
	admin("GET /admin/instances/{hostname}", w.getInstance)
	admin("POST /admin/instances/{hostname}/release", w.postRelease)
	admin("POST /admin/instances/{hostname}/clean", w.postClean)
	admin("POST /admin/instances/{hostname}/remove", w.postRemove)
	admin("POST /admin/instances/{hostname}/replace", w.postReplace)
	admin("POST /admin/instances/{hostname}/token", w.postToken)
	admin("POST /admin/instances/{hostname}/pin", w.postPIN)
	admin("GET /admin/instances/{hostname}/{action}", goTo("/admin/instances/{hostname}"))
	admin("GET /admin/create", w.getCreate)
	admin("GET /admin/aws", w.getAWS)
	admin("GET /admin/logs", w.getLogs)
	admin("GET /admin/logs/{hostname}", w.getLog)
	adminStream("GET /admin/logs/{hostname}/events", w.getLogEvents)
	adminStream("GET /admin/logs/{hostname}/download", w.getLogDownload)
	admin("GET /admin/operations", w.getOperations)
	admin("GET /admin/operations/{id}", w.getOperation)
	adminStream("GET /admin/operations/{id}/output", w.getOutput)
	// Nothing under /admin tells strangers whether it exists.
	admin("/admin", notFound)
	admin("/admin/", notFound)
}

// NotFound answers for every path that nobody else does.
func (w *Web) NotFound() http.Handler {
	page, data := httpx.Adapt(notFound, w.Error), httpx.Adapt(notFound, httpx.JSONError)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			data.ServeHTTP(rw, r)
			return
		}
		page.ServeHTTP(rw, r)
	})
}

// goTo answers whoever comes back to a page that answered a form, which cannot
// be shown again, with the page that has the form.
func goTo(address string) httpx.Handler {
	return func(rw http.ResponseWriter, r *http.Request) error {
		// A host name of another kind leads to an address of ours, too.
		http.Redirect(rw, r, strings.ReplaceAll(address, "{hostname}", url.PathEscape(r.PathValue("hostname"))), http.StatusSeeOther)
		return nil
	}
}
