package testkit

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"lablink/internal/config"
	"lablink/internal/server"
	"lablink/internal/store"
)

// AdminPassword is the password of every Allocator's admin.
const AdminPassword = "correct horse battery"

// Allocator is a real server that listens on a port of its own.
type Allocator struct {
	URL         string
	DatabaseURL string
	Store       *store.Store // of the test, beside the server's own
	Log         *LogBuffer
	Stop        func() // in order, as a signal does; at the latest when the test ends

	t      testing.TB
	client *http.Client
}

// ServeOptions change what Serve does.
type ServeOptions struct {
	DatabaseURL string               // "" = a fresh database
	Private     bool                 // or one of a private server, which the allocator starts
	Configure   func(*config.Config) // changes the configuration
	Adjust      func(*server.Server) // changes what has no configuration, before it runs
}

// Serve starts an allocator. Several on one DatabaseURL are replicas.
func Serve(t testing.TB, o ServeOptions) *Allocator {
	t.Helper()
	flags := map[string]string{"listen": "127.0.0.1:0", "data-dir": t.TempDir()}
	switch {
	case o.Private:
		flags["data-dir"] = reachableDir(t)
	case o.DatabaseURL == "":
		o.DatabaseURL = DB(t)
		setAdminPassword(t, o.DatabaseURL)
	}
	if !o.Private {
		flags["database-url"] = o.DatabaseURL
	}
	cfg, err := config.Load(config.Options{Flags: flags, Environ: []string{"LABLINK_ADMIN_PASSWORD=" + AdminPassword}})
	if err != nil {
		t.Fatal(err)
	}
	if o.Configure != nil {
		o.Configure(cfg)
	}
	a := &Allocator{Log: &LogBuffer{}, t: t, client: &http.Client{
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	ready := make(chan net.Addr, 1)
	srv := server.New(server.Options{
		Config: cfg, Logger: slog.New(slog.NewTextHandler(a.Log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Ready: func(addr net.Addr, databaseURL string) {
			a.DatabaseURL = databaseURL
			ready <- addr
		},
	})
	if o.Adjust != nil {
		o.Adjust(srv)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	var once sync.Once
	a.Stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("the allocator stopped with: %v", err)
			}
			a.client.CloseIdleConnections()
		})
	}
	t.Cleanup(func() {
		a.Stop()
		if t.Failed() {
			t.Logf("log of %s:\n%s", a.URL, a.Log)
		}
	})
	select {
	case addr := <-ready:
		a.URL = "http://" + addr.String()
	case err := <-ended:
		ended <- err
		t.Fatalf("the allocator did not start: %v\n%s", err, a.Log)
	}
	if a.Store, err = store.Open(ctx, a.DatabaseURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Store.Close)
	return a
}

// reachableDir is a folder that the unprivileged user of a private PostgreSQL
// can reach, unlike the test's own.
func reachableDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lablink-alone-") //nolint:usetesting // whose parents are closed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// cheapHash is a hash of AdminPassword that takes no time to check: under the
// race detector the usual one takes a second.
var cheapHash = sync.OnceValues(func() (string, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(AdminPassword), bcrypt.MinCost)
	return string(hash), err
})

func setAdminPassword(t testing.TB, databaseURL string) {
	t.Helper()
	hash, err := cheapHash()
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.SetAdminHash(t.Context(), hash); err != nil {
		t.Fatal(err)
	}
}

// Response is an answer that was read to its end.
type Response struct {
	Status int
	Header http.Header
	Body   string
	Err    error // of reading the body, such as a cut connection
}

// JSON decodes the body.
func (r Response) JSON(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.Body), v); err != nil {
		t.Fatalf("answer %d is no JSON: %v\n%s", r.Status, err, r.Body)
	}
}

// Request is a request to be sent by Do.
type Request struct {
	Method string // POST by default
	Path   string
	Token  string // of a VM
	Admin  bool   // log in
	JSON   any    // the body
	Form   string // the body, if JSON is nil
	Header map[string]string
}

// Do sends a request and reads the answer. It does not follow redirects.
func (a *Allocator) Do(ctx context.Context, r Request) Response {
	a.t.Helper()
	if r.Method == "" {
		r.Method = http.MethodPost
	}
	body, contentType := io.Reader(strings.NewReader(r.Form)), "application/x-www-form-urlencoded"
	if r.JSON != nil {
		data, err := json.Marshal(r.JSON)
		if err != nil {
			a.t.Error(err)
		}
		body, contentType = bytes.NewReader(data), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, a.URL+r.Path, body)
	if err != nil {
		a.t.Error(err)
		return Response{Err: err}
	}
	req.Header.Set("Content-Type", contentType)
	if r.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	if r.Admin {
		req.SetBasicAuth("admin", AdminPassword)
	}
	for k, v := range r.Header {
		req.Header.Set(k, v)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return Response{Err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return Response{resp.StatusCode, resp.Header, string(data), err}
}

// Register adds running machines and returns their tokens by hostname.
func (a *Allocator) Register(hostnames ...string) map[string]string {
	a.t.Helper()
	r := a.Do(a.t.Context(), Request{Path: "/api/vms", Admin: true, JSON: map[string]any{"hostnames": hostnames}})
	if r.Status != http.StatusCreated {
		a.t.Fatalf("registering %v: %d %s %v", hostnames, r.Status, r.Body, r.Err)
	}
	var made struct {
		VMs []struct{ Hostname, Token string } `json:"vms"`
	}
	r.JSON(a.t, &made)
	tokens := map[string]string{}
	for _, vm := range made.VMs {
		tokens[vm.Hostname] = vm.Token
		report := Request{Path: "/api/vm-status", Token: vm.Token, JSON: map[string]string{"hostname": vm.Hostname, "status": "running"}}
		if r := a.Do(a.t.Context(), report); r.Status != http.StatusOK {
			a.t.Fatalf("status of %s: %d %s %v", vm.Hostname, r.Status, r.Body, r.Err)
		}
	}
	return tokens
}

// Eventually asks done, until it is true, each time the fleet may have changed.
// It fails the test when the test's time is over or nothing happens for long: a
// machine that is busy with other tests may take minutes for an operation.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	// More and more rarely: to ask is work for the server, too.
	for pause := 2 * time.Millisecond; !done(); pause = min(2*pause, 60*time.Millisecond) {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-time.After(pause):
		}
	}
}

// LogBuffer collects a log.
type LogBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns what was logged so far.
func (b *LogBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
