package server_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"lablink/internal/config"
	"lablink/internal/testkit"
	"lablink/internal/wire"
)

const asJSON = "application/json"

// Every JSON endpoint refuses what it cannot understand, says why, and changes
// nothing.
func TestErrors_BadBodies(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{Configure: func(c *config.Config) { c.Limits.BodyBytes = 2048 }})
	token := a.Register("vm-1")["vm-1"]
	for path, wrongTypes := range map[string][]string{
		wire.PathStartup:          {`{"hostname": 7}`, `{"hostname": null}`, `{"hostname": ["vm-1"]}`, `{}`},
		wire.PathCRDResult:        {`{"hostname": "vm-1", "delivery": "1"}`, `{"hostname": "vm-1", "result": "connected"}`, `{"hostname": "vm-1", "delivery": 1, "result": "great"}`, `{"hostname": "vm-1", "delivery": 1.5}`, `{"hostname": "vm-1", "delivery": 99999999999999999999}`},
		wire.PathStatus:           {`{"hostname": 7, "status": "running"}`, `{"hostname": "vm-1"}`, `{"hostname": "vm-1", "status": null}`, `{"hostname": "vm-1", "status": "active"}`, `{"hostname": "vm-1", "status": "destroyed"}`, `{"hostname": "vm-1", "status": "provisioning"}`, `{"hostname": "vm-1", "status": "Running"}`},
		wire.PathGPU:              {`{"hostname": "vm-1", "gpu_status": 1}`, `{"hostname": "vm-1", "gpu_status": "healthy"}`, `{"hostname": "vm-1", "gpu_utilization": 0.5}`},
		wire.PathInUse:            {`{"hostname": "vm-1"}`, `{"hostname": "vm-1", "status": "true"}`, `{"hostname": "vm-1", "status": 1}`, `{"hostname": "vm-1", "inuse": true}`},
		wire.PathMetrics + "vm-1": {`{"cloud_init_start": "2025-11-24"}`, `{"cloud_init_start": -1}`, `{"cloud_init_start": 1e300}`, `{"cloud_init_start": 9, "cloud_init_end": 8}`, `{"container_startup_duration_seconds": -1}`},
		"/api/vms":                {`{"hostname": 7}`, `{"hostnames": "vm-2"}`, `{"hostnames": [7]}`},
		"/api/request_vm":         {`{"email": 7}`, `{}`, `{"email": "a@example.org"}`, `{"email": "a", "crd_command": "4/0a"}`, `{"email": "a@example.org", "crd_command": "rm -rf /"}`},
	} {
		try := func(what, contentType, body string, want int, says string) {
			t.Helper()
			r := a.Do(t.Context(), testkit.Request{Path: path, Token: token, Admin: path == "/api/vms", Form: body,
				Header: map[string]string{"Content-Type": contentType, "Accept": asJSON}})
			if r.Status != want || !strings.Contains(r.Body, says) || !strings.Contains(r.Body, `"error"`) || r.Header.Get("Content-Type") != asJSON {
				t.Errorf("%s, %s: %d %s %v, want %d with %q", path, what, r.Status, r.Body, r.Err, want, says)
			}
		}
		for _, body := range wrongTypes {
			try(body, asJSON, body, 400, "")
		}
		try("nothing", asJSON, "", 400, "empty")
		try("cut", asJSON, `{"hostname": "vm-1`, 400, "ends too early")
		try("garbage behind", asJSON, `{"hostname": "vm-1"} x`, 400, "after the JSON value")
		try("no JSON", asJSON, `hostname=vm-1`, 400, "not valid JSON")
		try("a list", asJSON, `[]`, 400, "JSON object")
		try("too large", asJSON, `{"hostname": "`+strings.Repeat("a", 3000)+`"}`, 413, "2048 bytes")
		if path != "/api/request_vm" { // takes forms too
			try("a form", "application/x-www-form-urlencoded", `hostname=vm-1`, 415, asJSON)
			try("plain text", "text/plain", `{"hostname": "vm-1"}`, 415, asJSON)
		} else {
			try("too large a form", "application/x-www-form-urlencoded", "email="+strings.Repeat("a", 3000), 413, "2048 bytes")
			try("a form that is not text", "application/x-www-form-urlencoded", "email=a%ff@example.org&crd_command=4/0a", 400, "text")
		}
		if path == wire.PathMetrics+"vm-1" || path == "/api/vms" || path == "/api/request_vm" {
			continue
		}
		for _, hostname := range []string{`vm\u0000`, "VM-1", `\ud800`, "vm_1", strings.Repeat("a", 64)} {
			body := `{"hostname": "` + hostname + `", "status": "running", "gpu_status": "N/A", "delivery": 1, "result": "connected"}`
			if path == wire.PathInUse {
				body = `{"hostname": "` + hostname + `", "status": true}`
			}
			try("hostname "+hostname, asJSON, body, 400, "host name")
		}
	}
	if v, err := a.Store.VM(t.Context(), "vm-1"); err != nil || !v.Free() || v.InUse || v.Health != "" || v.Startup.Total() != 0 {
		t.Errorf("afterwards: %+v, %v", v, err)
	}
}

func TestErrors_MethodsAndPaths(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	a.Register("vm-1")
	for path, allow := range map[string]string{
		wire.PathStartup: "POST", wire.PathCRDResult: "POST", wire.PathGPU: "POST", wire.PathInUse: "POST", wire.PathMetrics + "vm-1": "POST",
		"/api/vms": "POST", "/api/vms/vm-1": "DELETE",
		wire.PathStatus: "GET, HEAD, POST", wire.PathStatus + "/vm-1": "GET, HEAD", "/api/unassigned_vms_count": "GET, HEAD",
		"/": "GET, HEAD", "/seat": "GET, HEAD", "/healthz": "GET, HEAD", "/readyz": "GET, HEAD", "/metrics": "GET, HEAD",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
			if slices.Contains(strings.Split(allow, ", "), method) {
				continue
			}
			r := a.Do(t.Context(), testkit.Request{Method: method, Path: path})
			if r.Status != http.StatusMethodNotAllowed || r.Header.Get("Allow") != allow {
				t.Errorf("%s %s: %d, Allow %q, want %q", method, path, r.Status, r.Header.Get("Allow"), allow)
			}
			if method == http.MethodHead && r.Body != "" {
				t.Errorf("HEAD %s has a body", path)
			}
		}
	}
	for _, path := range []string{"/", "/healthz", "/health", "/readyz", "/metrics", wire.PathStatus, wire.PathStatus + "/vm-1", "/api/unassigned_vms_count"} {
		if r := a.Do(t.Context(), testkit.Request{Method: http.MethodHead, Path: path}); r.Status != http.StatusOK || r.Body != "" {
			t.Errorf("HEAD %s: %d %q", path, r.Status, r.Body)
		}
	}
	for path, want := range map[string]string{
		"/nowhere": "text/html; charset=utf-8", "/api/nowhere": asJSON, "/api/vm-status/": asJSON, "/api/vm-status/nobody": asJSON,
		"/.env": "text/html; charset=utf-8", "/static/..%2f..%2fetc%2fpasswd": "text/html; charset=utf-8",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			r := a.Do(t.Context(), testkit.Request{Method: method, Path: path})
			if r.Status != http.StatusNotFound || r.Header.Get("Content-Type") != want || r.Header.Get("X-Request-Id") == "" {
				t.Errorf("%s %s: %d, %s", method, path, r.Status, r.Header.Get("Content-Type"))
			}
		}
	}
	for _, path := range []string{"/api/vm-status/%00", "/api/vm-status/%ff", "/admin/instances/%00", "/?x=%00"} {
		r := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: path, Admin: true})
		wantStatus(t, r, http.StatusBadRequest)
	}
}

// What the public may ask names VMs and counts them, and tells nothing of people.
func TestQueries(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	get := func(path string) testkit.Response {
		return a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: path})
	}
	if r := get("/api/vm-status"); r.Status != http.StatusNotFound || !strings.Contains(r.Body, `"error"`) {
		t.Errorf("without VMs: %d %s", r.Status, r.Body)
	}
	if r := get("/api/unassigned_vms_count"); r.Body != "{\"count\":0}\n" {
		t.Errorf("count: %s", r.Body)
	}
	token := a.Register("vm-1", "vm-2")["vm-1"]
	answer := poll(t.Context(), a, "vm-1", token)
	waits(t, a, "vm-1")
	hostname, pin := request(t, a, 1)
	wantDelivery(t, answer, 1, pin)
	if r := get("/api/vm-status"); r.Body != "{\"vm-1\":\"running\",\"vm-2\":\"running\"}\n" {
		t.Errorf("statuses: %s", r.Body)
	}
	if r := get("/api/vm-status/" + hostname); r.Body != "{\"hostname\":\"vm-1\",\"status\":\"running\"}\n" {
		t.Errorf("one status: %s", r.Body)
	}
	if r := get("/api/unassigned_vms_count"); r.Body != "{\"count\":1}\n" {
		t.Errorf("count: %s", r.Body)
	}
	for _, path := range []string{"/", "/api/vm-status", "/api/vm-status/vm-1", "/api/unassigned_vms_count", "/metrics", "/healthz", "/readyz", "/seat", "/seat/find", "/nowhere"} {
		r := get(path)
		for _, secret := range []string{"p1@example.org", pin, "secret-code", token} {
			if strings.Contains(r.Body, secret) {
				t.Errorf("%s tells %q", path, secret)
			}
		}
	}
}

// A database that fails is an error everywhere, without a word about it; nothing
// is called a success, and no count is 0.
func TestErrors_DatabaseFailure(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	token := a.Register("vm-1")["vm-1"]
	conn, err := pgx.Connect(t.Context(), a.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `ALTER TABLE vms RENAME TO elsewhere`); err != nil {
		t.Fatal(err)
	}
	requests := append(machineRoutes("vm-1"),
		testkit.Request{Path: wire.PathStartup, JSON: wire.StartupRequest{Hostname: "vm-1"}},
		testkit.Request{Path: wire.PathCRDResult, JSON: wire.ResultRequest{Hostname: "vm-1", Delivery: 1, Result: "connected"}},
		testkit.Request{Path: "/api/request_vm", JSON: map[string]string{"email": "a@example.org", "crd_command": command(1)}},
		testkit.Request{Path: "/api/request_vm", Form: "email=a@example.org&crd_command=4/0secret-code"},
		testkit.Request{Path: "/api/vms", Admin: true, JSON: map[string]string{"hostname": "vm-2"}},
		testkit.Request{Method: http.MethodDelete, Path: "/api/vms/vm-1", Admin: true},
		testkit.Request{Method: http.MethodGet, Path: "/"},
		testkit.Request{Method: http.MethodGet, Path: "/admin/instances", Admin: true},
		testkit.Request{Method: http.MethodGet, Path: wire.PathStatus},
		testkit.Request{Method: http.MethodGet, Path: wire.PathStatus + "/vm-1"},
		testkit.Request{Method: http.MethodGet, Path: "/api/unassigned_vms_count"},
	)
	for _, r := range requests {
		if !r.Admin {
			r.Token = token
		}
		got := a.Do(t.Context(), r)
		if got.Status < 500 || strings.Contains(got.Body, "relation") || strings.Contains(got.Body, "SQLSTATE") {
			t.Errorf("%s %s: %d %s", r.Method, r.Path, got.Status, got.Body)
		}
		if id := got.Header.Get("X-Request-Id"); id == "" || !strings.Contains(a.Log.String(), id) {
			t.Errorf("%s %s: the log does not know request %q", r.Method, r.Path, id)
		}
	}
	if !strings.Contains(a.Log.String(), `relation`) {
		t.Error("the log does not say what is wrong")
	}
	for _, secret := range []string{"secret-code", token, testkit.AdminPassword} {
		if strings.Contains(a.Log.String(), secret) {
			t.Errorf("the log holds the secret %q", secret)
		}
	}
}
