package web_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/httpx"
	"lablink/internal/store"
)

const provider = "local"

// makesVMs configures a site to have a provider.
func makesVMs(c *config.Config) {
	c.Provider, c.Provision.Prefix = config.ProviderLocal, "vm-"
	c.Machine.MachineType, c.Limits.MaxVMs = "small", 10
}

// launch asks for VMs.
func (s *site) launch(n int) fleet.Operation {
	s.t.Helper()
	op, err := s.store.Launch(s.t.Context(), tester, store.Launch{Provider: provider, Prefix: "vm-", InstanceType: "small", Count: n, Most: 100})
	s.must(err)
	return op
}

// destroy asks for VMs to be destroyed.
func (s *site) destroy(hostnames ...string) fleet.Operation {
	s.t.Helper()
	op, err := s.store.Destroy(s.t.Context(), tester, store.Destroy{Provider: provider, Hostnames: hostnames})
	s.must(err)
	return op
}

// runner is the hands of whoever runs an operation.
type runner struct {
	*store.Claim
	s *site
}

// claim takes the next operation.
func (s *site) claim() *runner {
	s.t.Helper()
	lock, err := s.store.LockWorkspace(s.t.Context(), provider)
	s.must(err)
	if lock == nil {
		s.t.Fatal("somebody else runs the operations")
	}
	defer lock.Close() // nobody else is there to take it
	c, err := lock.Claim(s.t.Context())
	s.must(err)
	if c == nil {
		s.t.Fatal("there is nothing to run")
	}
	return &runner{c, s}
}

// ids are those of the operation's VMs, by their place in it.
func (r *runner) ids(places ...int) []int64 {
	ids := make([]int64, len(places))
	for i, place := range places {
		ids[i] = r.Steps[place].VM
	}
	return ids
}

// times repeats a time for each of n VMs.
func times(at time.Time, n int) []time.Time {
	all := make([]time.Time, n)
	for i := range all {
		all[i] = at
	}
	return all
}

func (r *runner) enter(p fleet.Phase) {
	r.s.t.Helper()
	r.s.must(r.Enter(r.s.t.Context(), p))
}

// begin has Terraform work on VMs since some time ago.
func (r *runner) begin(ago time.Duration, places ...int) {
	r.s.t.Helper()
	r.s.must(r.Begin(r.s.t.Context(), r.ids(places...), times(time.Now().Add(-ago), len(places))))
}

// done has Terraform finish VMs.
func (r *runner) done(places ...int) {
	r.s.t.Helper()
	finish := r.Created
	if r.Kind == fleet.KindDestroy {
		finish = r.Destroyed
	}
	r.s.must(finish(r.s.t.Context(), r.ids(places...), times(time.Now(), len(places))))
}

// fail has Terraform fail with VMs.
func (r *runner) fail(message string, places ...int) {
	r.s.t.Helper()
	messages := make([]string, len(places))
	for i := range messages {
		messages[i] = message
	}
	r.s.must(r.Failed(r.s.t.Context(), r.ids(places...), messages))
}

func (r *runner) finish(state fleet.OperationState, message string) {
	r.s.t.Helper()
	r.s.must(r.Finish(r.s.t.Context(), state, message))
}

// made asks for VMs, and makes them.
func (s *site) made(n int) {
	s.t.Helper()
	s.launch(n)
	r := s.claim()
	for place := range n {
		r.begin(time.Minute, place)
		r.done(place)
	}
	r.finish(fleet.OperationSucceeded, "")
}

// running has VMs report that they are ready.
func (s *site) running(names ...string) {
	s.t.Helper()
	for _, name := range names {
		s.must(s.store.SetStatus(s.t.Context(), tester, name, fleet.StatusRunning))
	}
}

// refusal is what a browser reads when the API refuses its form.
func (s *site) refusal(write httpx.ErrorWriter, path string, e *fleet.Error, pairs ...string) *answer {
	s.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	r := httptest.NewRequestWithContext(s.t.Context(), http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	s.must(httpx.ReadForm(r))
	rec := httptest.NewRecorder()
	write(rec, r, httpx.Status(e.Kind), e)
	return &answer{s.t, rec.Code, rec.Header(), rec.Body.String(), rec.Header().Get("Location")}
}

// started has a VM report how long its own part of the start-up took, in
// seconds.
func (s *site) started(hostname string, cloudInit, container float64) {
	s.t.Helper()
	s.must(s.store.SetStartup(s.t.Context(), hostname, store.Phase{Seconds: &cloudInit}, store.Phase{Seconds: &container}))
}

// endConnections cuts all connections to the database.
func (s *site) endConnections() {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.database)
	s.must(err)
	defer conn.Close(s.t.Context())
	_, err = conn.Exec(s.t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	s.must(err)
}
