// Package api is the JSON side of the allocator: what VMs call, what scripts may
// ask, and how an admin registers machines. Bodies are those of package wire;
// paths and statuses are what the existing clients expect.
package api

import (
	"context"
	"net/http"
	"sync"
	"time"

	"lablink/internal/awsaccount"
	"lablink/internal/fleet"
	"lablink/internal/httpx"
	"lablink/internal/store"
	"lablink/internal/wait"
	"lablink/internal/wire"
)

// Options are what the endpoints need.
type Options struct {
	Store   *store.Store
	Hub     *wait.Hub
	Replica int64 // this process, among those that share the database
	// OpenMachines lets VMs call without a credential, as the existing clients do.
	OpenMachines  bool
	MaxWait       time.Duration  // of one poll
	Keepalive     time.Duration  // between the newlines of a poll
	VMLimit       *httpx.Limiter // of requests, by VM
	MaxRegistered int            // machines registered by hand
	Logs          Logs
	Admin         func(http.Handler, httpx.ErrorWriter) http.Handler // lets only the admin through
	OnDelivery    func(sinceRequest time.Duration)                   // after a code was written to a poll
	Feed          *wait.Feed                                         // of changes to operations
	Provisioning  Provisioning
	AWS           *awsaccount.Account // nil unless VMs are made there
	EnterAWS      bool                // its credentials may be entered
	// How a browser is told that its form was refused.
	LaunchRefused, DestroyRefused, AWSRefused, Refused httpx.ErrorWriter
}

// API serves the endpoints.
type API struct {
	Options
	oldHTTPWait time.Duration  // the constant, shorter in tests
	marks       sync.WaitGroup // deliveries being noted after their answer was written
	awsAttempts *httpx.Limiter // to enter credentials
	opening     chan struct{}  // as many polls may begin at once; half of the database's connections
	storing     chan struct{}  // as many batches of logs may be stored at once; a quarter of them
}

// New returns the endpoints.
func New(o Options) *API {
	atOnce := max(1, o.Store.Stat().MaxConns()/2)
	return &API{
		Options: o, oldHTTPWait: oldHTTPWait, opening: make(chan struct{}, atOnce), storing: make(chan struct{}, max(1, atOnce/2)),
		awsAttempts: httpx.NewLimiter(attemptsPerMinute, attemptsPerMinute),
	}
}

// Routes adds the endpoints to mux.
func (a *API) Routes(mux *http.ServeMux) {
	handle := func(pattern string, h httpx.Handler) {
		mux.Handle(pattern, httpx.Adapt(httpx.Bounded(h), httpx.JSONError))
	}
	admin := func(pattern string, h httpx.Handler) {
		mux.Handle(pattern, a.Admin(httpx.Adapt(httpx.Bounded(h), httpx.JSONError), httpx.JSONError))
	}

	mux.Handle("POST "+wire.PathStartup, httpx.Adapt(a.startup, httpx.JSONError))
	handle("POST "+wire.PathCRDResult, a.crdResult)
	handle("POST "+wire.PathStatus, a.reportStatus)
	handle("POST "+wire.PathGPU, a.reportGPU)
	handle("POST "+wire.PathInUse, a.reportInUse)
	handle("POST "+wire.PathMetrics+"{hostname}", a.reportMetrics)

	handle("GET /api/unassigned_vms_count", a.freeCount)
	handle("GET "+wire.PathStatus, a.statuses)
	handle("GET "+wire.PathStatus+"/{hostname}", a.status)

	// It bounds its own steps: to read a batch may take longer than to store it.
	mux.Handle("POST "+wire.PathLogs, httpx.Adapt(a.postLogs, httpx.JSONError))
	mux.Handle("GET "+wire.PathLogs+"/{hostname}", a.logReaders(httpx.Adapt(httpx.Bounded(a.readLog), httpx.JSONError)))

	admin("POST /api/vms", a.registerVMs)
	admin("DELETE /api/vms/{hostname}", a.removeVM)

	form := func(pattern string, h httpx.Handler, refused httpx.ErrorWriter) {
		bounded := httpx.Bounded(h)
		read := func(w http.ResponseWriter, r *http.Request) error {
			// Here, because whoever shows the form again needs what was typed, and Bounded
			// hands on a copy of the request.
			if !sentJSON(r) {
				if err := httpx.ReadForm(r); err != nil {
					httpx.WriteError(w, r, err, pageOrJSON(a.Refused)) // there is nothing to show again
					return nil
				}
			}
			return bounded(w, r)
		}
		mux.Handle(pattern, a.Admin(httpx.Adapt(read, pageOrJSON(refused)), pageOrJSON(a.Refused)))
	}
	form("POST /api/launch", a.launch, a.LaunchRefused)
	form("POST /destroy", a.destroy, a.DestroyRefused)
	form("POST /api/admin/set-aws-credentials", a.setAWSCredentials, a.AWSRefused)
	form("POST /api/admin/unset-aws-credentials", a.unsetAWSCredentials, a.AWSRefused)
	admin("GET /api/operations", a.operations)
	admin("GET /api/operations/{id}", a.operation)
	form("POST /api/operations/{id}/retry", a.retryOperation, a.Refused)
	form("POST /api/operations/{id}/stop", a.stopOperation, a.Refused)
	mux.Handle("GET /api/operations/{id}/events", a.Admin(httpx.Adapt(a.operationEvents, httpx.JSONError), httpx.JSONError))
}

// Wait returns when the deliveries that were written are noted in the database.
func (a *API) Wait() { a.marks.Wait() }

// machine returns the VM that calls, which must be the one it speaks of.
func (a *API) machine(ctx context.Context, r *http.Request, hostname string) (store.Machine, error) {
	if hostname == "" {
		return store.Machine{}, fleet.FieldErrorf("hostname", "hostname is required")
	}
	if err := fleet.ValidateHostname(hostname); err != nil {
		return store.Machine{}, err
	}
	m, err := a.identify(ctx, r, hostname)
	if err != nil {
		return m, err
	}
	if retry, ok := a.VMLimit.Allow(m.Hostname); !ok {
		return m, &fleet.Error{Kind: fleet.Limited, RetryAfter: retry, Message: "this VM calls too often: it should back off"}
	}
	return m, nil
}

func (a *API) identify(ctx context.Context, r *http.Request, hostname string) (store.Machine, error) {
	token, given := bearer(r)
	if !given {
		if a.OpenMachines {
			return a.Store.MachineByHostname(ctx, hostname)
		}
		return store.Machine{}, fleet.Errorf(fleet.Unauthenticated, "send the VM's token: Authorization: Bearer TOKEN")
	}
	m, err := a.Store.MachineByToken(ctx, fleet.HashToken(token))
	if err == nil && m.Hostname != hostname {
		return store.Machine{}, fleet.Errorf(fleet.Forbidden, "this token belongs to another VM than the one named")
	}
	return m, err
}
