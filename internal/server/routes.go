package server

import (
	"context"
	"net/http"
	"path"
	"strings"
	"time"

	"lablink/internal/api"
	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/httpx"
	"lablink/internal/web"
)

// handler builds everything that answers HTTP.
func (s *Server) handler() (http.Handler, error) {
	cfg := s.Config
	login := httpx.NewAdmin(cfg.Admin.User, s.store.AdminHash,
		httpx.NewLimiter(cfg.Limits.LoginFailuresPerMinute, cfg.Limits.LoginFailuresPerMinute),
		strings.HasPrefix(cfg.Server.PublicURL, "https://"))
	pages, err := web.New(web.Options{
		Store: s.store, Feed: s.feed, Config: cfg, Logger: s.Logger,
		Admin: login.Require, AWS: s.AWS, EnterAWS: s.Config.DatabaseURL == "",
		RequestLimit: httpx.NewLimiter(cfg.Limits.RequestVMPerMinute, cfg.Limits.RequestVMBurst),
	})
	if err != nil {
		return nil, err
	}
	s.api = api.New(api.Options{
		Store: s.store, Hub: s.hub, Replica: s.replica,
		OpenMachines: cfg.Auth.Machines == config.MachineOpen,
		MaxWait:      cfg.Poll.MaxWait, Keepalive: cfg.Poll.Keepalive,
		VMLimit:       httpx.NewLimiter(cfg.Limits.VMRequestsPerMinute, cfg.Limits.VMRequestsPerMinute),
		MaxRegistered: cfg.Limits.MaxRegistered,
		Logs: api.Logs{
			ProcessorToken: cfg.Logs.ProcessorToken.Reveal(),
			KeepUnknown:    cfg.Logs.KeepUnknown, Public: cfg.Logs.Public,
			VMLimit:     httpx.NewLimiter(cfg.Limits.VMLogPostsPerMinute, cfg.Limits.VMLogPostsPerMinute),
			SenderLimit: httpx.NewLimiter(cfg.Limits.LogPostsPerMinute, cfg.Limits.LogPostsPerMinute),
			Secrets:     []string{cfg.Logs.ProcessorToken.Reveal(), cfg.Admin.Password.Reveal(), cfg.CRD.PIN.Reveal()},
			Count:       s.metrics.logged,
		},
		Admin:      login.Require,
		OnDelivery: s.metrics.delivered,
		Feed:       s.feed,
		Provisioning: api.Provisioning{
			Provider: string(cfg.Provider), Prefix: cfg.Provision.Prefix,
			InstanceType: cfg.Machine.MachineType, MaxVMs: cfg.Limits.MaxVMs,
		},
		AWS: s.AWS, EnterAWS: s.Config.DatabaseURL == "",
		LaunchRefused: pages.LaunchRefused, DestroyRefused: pages.DestroyRefused, AWSRefused: pages.AWSRefused, Refused: pages.Error,
	})
	mux := http.NewServeMux()
	s.api.Routes(mux)
	pages.Routes(mux)
	s.healthRoutes(mux)
	mux.Handle("GET /metrics", s.metrics.handler())
	refuse := errorWriter(pages.Error)
	protected, err := httpx.Protect(withNotFound(mux, pages.NotFound(), refuse), cfg.Server.PublicURL, int64(cfg.Limits.BodyBytes), refuse)
	if err != nil {
		return nil, err
	}
	return httpx.Observe(protected, s.Logger, cfg.Server.TrustedProxies, s.metrics.observe, refuse), nil
}

// withNotFound puts our own answers in the place of the mux's plain ones for a
// path that does not exist, or not with this method.
func withNotFound(mux *http.ServeMux, notFound http.Handler, refuse httpx.ErrorWriter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			cleanPath(r)
		}
		plain, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		p := probe{header: http.Header{}}
		plain.ServeHTTP(&p, r)
		if p.status != http.StatusMethodNotAllowed {
			notFound.ServeHTTP(w, r)
			return
		}
		allow := p.header.Get("Allow")
		w.Header().Set("Allow", allow)
		refuse(w, r, p.status, fleet.Errorf(fleet.Invalid, "%s is not possible here, only %s", r.Method, allow))
	})
}

// cleanPath makes //vm_startup of /vm_startup, as it results from a base URL that
// ends in a slash. The mux would redirect, and who posts does not follow.
func cleanPath(r *http.Request) {
	clean := path.Clean("/" + r.URL.Path)
	if clean != "/" && strings.HasSuffix(r.URL.Path, "/") {
		clean += "/"
	}
	if clean != r.URL.Path {
		u := *r.URL
		u.Path, u.RawPath = clean, ""
		r.URL = &u
	}
}

// probe takes the status and header of an answer that is not sent.
type probe struct {
	header http.Header
	status int
}

// Header implements http.ResponseWriter.
func (p *probe) Header() http.Header { return p.header }

// Write implements http.ResponseWriter.
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader implements http.ResponseWriter.
func (p *probe) WriteHeader(status int) { p.status = status }

// errorWriter answers browsers with a page and everything else with JSON.
func errorWriter(page httpx.ErrorWriter) httpx.ErrorWriter {
	return func(w http.ResponseWriter, r *http.Request, status int, e *fleet.Error) {
		if strings.Contains(r.Header.Get("Accept"), "text/html") {
			page(w, r, status, e)
			return
		}
		httpx.JSONError(w, r, status, e)
	}
}

func (s *Server) healthRoutes(mux *http.ServeMux) {
	alive := httpx.Adapt(func(w http.ResponseWriter, r *http.Request) error {
		httpx.Quiet(r)
		return httpx.WriteJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	}, httpx.JSONError)
	mux.Handle("GET /healthz", alive)
	mux.Handle("GET /health", alive)
	mux.Handle("GET /readyz", httpx.Adapt(func(w http.ResponseWriter, r *http.Request) error {
		httpx.Quiet(r)
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := s.store.Ping(ctx); err != nil {
			return unready("the database does not answer", err)
		}
		if !s.listen.Listening() {
			return unready("the connection for notifications is down, it reconnects by itself", nil)
		}
		return httpx.WriteJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	}, httpx.JSONError))
}
