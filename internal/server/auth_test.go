package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"lablink/internal/config"
	"lablink/internal/testkit"
	"lablink/internal/wire"
)

// machineRoutes are the requests of a VM, but for its poll, which would be held.
func machineRoutes(hostname string) []testkit.Request {
	return []testkit.Request{
		{Path: wire.PathStatus, JSON: wire.StatusRequest{Hostname: hostname, Status: "running"}},
		{Path: wire.PathGPU, JSON: wire.GPURequest{Hostname: hostname, GPUStatus: "Healthy"}},
		{Path: wire.PathInUse, JSON: map[string]any{"hostname": hostname, "status": true}},
		{Path: wire.PathMetrics + hostname, JSON: map[string]any{"cloud_init_duration_seconds": 9}},
	}
}

func TestMachines_EachOnlyForItself(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	tokens := a.Register("vm-1", "vm-2")
	all := append(machineRoutes("vm-1"),
		testkit.Request{Path: wire.PathStartup, JSON: wire.StartupRequest{Hostname: "vm-1"}},
		testkit.Request{Path: wire.PathCRDResult, JSON: wire.ResultRequest{Hostname: "vm-1", Delivery: 1, Result: wire.ResultConnected}})
	for _, r := range all {
		for name, tc := range map[string]struct {
			authorization string
			want          int
		}{
			"no credential":       {"", 401},
			"a wrong token":       {"Bearer " + tokens["vm-1"] + "x", 401},
			"half a token":        {"Bearer " + tokens["vm-1"][:20], 401},
			"an empty token":      {"Bearer ", 401},
			"another scheme":      {"Basic " + tokens["vm-1"], 401},
			"without scheme":      {tokens["vm-1"], 401},
			"the admin's log-in":  {"Basic YWRtaW46Y29ycmVjdCBob3JzZSBiYXR0ZXJ5", 401},
			"another VM's token":  {"Bearer " + tokens["vm-2"], 403},
			"bytes that are none": {"Bearer \xff\x01", 401},
		} {
			r.Header = map[string]string{"Authorization": tc.authorization}
			if tc.authorization == "" {
				r.Header = nil
			}
			got := a.Do(t.Context(), r)
			if tc.authorization == "Bearer \xff\x01" && got.Err != nil {
				continue // Go's client refuses to send it
			}
			if got.Status != tc.want || !strings.Contains(got.Body, `"error"`) {
				t.Errorf("%s with %s: %d %s %v, want %d", r.Path, name, got.Status, got.Body, got.Err, tc.want)
			}
		}
	}
	for _, r := range machineRoutes("vm-1") {
		r.Token = tokens["vm-1"]
		wantStatus(t, a.Do(t.Context(), r), http.StatusOK)
		r.Header = map[string]string{"Authorization": "bearer  " + tokens["vm-1"] + " "}
		wantStatus(t, a.Do(t.Context(), r), http.StatusOK)
	}
	// A VM that does not exist is nobody's.
	for _, r := range machineRoutes("vm-3") {
		r.Token = tokens["vm-1"]
		wantStatus(t, a.Do(t.Context(), r), http.StatusForbidden)
	}
}

func TestMachines_WithoutCredentials(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{Configure: func(c *config.Config) {
		c.Auth.Machines, c.Limits.MaxRegistered = config.MachineOpen, 2
	}})
	token := a.Register("vm-1")["vm-1"]
	unknown := machineRoutes("vm-2")
	for _, r := range append(unknown[1:], testkit.Request{Path: wire.PathStartup, JSON: wire.StartupRequest{Hostname: "vm-2"}}) {
		if got := a.Do(t.Context(), r); got.Status != http.StatusNotFound {
			t.Errorf("%s of a VM that is not known: %d %s", r.Path, got.Status, got.Body)
		}
	}
	// A report makes the row, within the limit.
	wantStatus(t, a.Do(t.Context(), unknown[0]), http.StatusOK)
	if got := a.Do(t.Context(), machineRoutes("vm-3")[0]); got.Status != http.StatusBadRequest || !strings.Contains(got.Body, "at most 2") {
		t.Errorf("a VM beyond the limit: %d %s", got.Status, got.Body)
	}
	for _, hostname := range []string{"<script>", "a b", "A", "-", strings.Repeat("a", 1024), "a\x00", ""} {
		r := machineRoutes("x")[0]
		r.JSON = wire.StatusRequest{Hostname: hostname, Status: "running"}
		wantStatus(t, a.Do(t.Context(), r), http.StatusBadRequest)
	}
	// Who shows a credential is held to it.
	r := machineRoutes("vm-1")[0]
	r.Token = token + "x"
	wantStatus(t, a.Do(t.Context(), r), http.StatusUnauthorized)
	r.Token = token
	wantStatus(t, a.Do(t.Context(), r), http.StatusOK)
}

// Nobody learns under /admin what exists, whatever the method.
func TestAdmin_EverythingNeedsTheLogin(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	token := a.Register("vm-1")["vm-1"]
	for _, path := range []string{
		"/admin", "/admin/", "/admin/instances", "/admin/instances/events", "/admin/instances/register", "/admin/instances/vm-1",
		"/admin/instances/vm-1/release", "/admin/instances/vm-1/pin", "/admin/instances/nobody", "/admin/create", "/admin/nonsense",
		"/admin/logs/vm-1", "/admin/..%2fadmin", "/api/vms", "/api/vms/vm-1", "/api/vms/nobody",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
			if strings.HasPrefix(path, "/api/vms") && method != http.MethodPost && method != http.MethodDelete {
				continue
			}
			for name, header := range map[string]map[string]string{
				"no log-in":    nil,
				"a VM's token": {"Authorization": "Bearer " + token},
			} {
				got := a.Do(t.Context(), testkit.Request{Method: method, Path: path, Header: header})
				if got.Status == http.StatusMethodNotAllowed && strings.HasPrefix(path, "/api/vms") {
					continue // outside /admin, what exists is no secret
				}
				if got.Status != http.StatusUnauthorized || !strings.HasPrefix(got.Header.Get("WWW-Authenticate"), "Basic ") {
					t.Errorf("%s %s with %s: %d, WWW-Authenticate %q", method, path, name, got.Status, got.Header.Get("WWW-Authenticate"))
				}
			}
		}
	}
	for _, path := range []string{"/admin", "/admin/nonsense", "/admin/instances/vm-1"} {
		got := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: path, Header: map[string]string{"Authorization": "Basic YWRtaW46d3Jvbmc="}})
		wantStatus(t, got, http.StatusUnauthorized)
	}
	for path, want := range map[string]int{"/admin": 200, "/admin/instances": 200, "/admin/instances/vm-1": 200, "/admin/instances/nobody": 404, "/admin/nonsense": 404} {
		if got := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: path, Admin: true}); got.Status != want {
			t.Errorf("the admin at %s: %d, want %d", path, got.Status, want)
		}
	}
	if v, err := a.Store.VM(t.Context(), "vm-1"); err != nil || !v.Free() {
		t.Errorf("afterwards: %+v, %v", v, err)
	}
}

// A page of another site cannot act for whoever visits it, logged in or not.
func TestCrossSite(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	token := a.Register("vm-1")["vm-1"]
	for _, r := range append(machineRoutes("vm-1"),
		testkit.Request{Path: "/api/request_vm", Form: "email=a@example.org&crd_command=4/0abc"},
		testkit.Request{Path: "/api/vms", Admin: true, JSON: map[string]string{"hostname": "vm-2"}},
		testkit.Request{Method: http.MethodDelete, Path: "/api/vms/vm-1", Admin: true},
		testkit.Request{Path: "/admin/instances/vm-1/remove", Admin: true},
		testkit.Request{Path: "/admin/instances/vm-1/remove"},
		testkit.Request{Path: "/admin/nonsense"},
		testkit.Request{Path: "/seat/forget"},
		testkit.Request{Path: "/nowhere"},
	) {
		for _, header := range []map[string]string{
			{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"},
		} {
			r.Token, r.Header = token, header
			if r.Admin {
				r.Token = ""
			}
			if got := a.Do(t.Context(), r); got.Status != http.StatusForbidden {
				t.Errorf("%s with %v: %d %s", r.Path, header, got.Status, got.Body)
			}
		}
	}
	if v, err := a.Store.VM(t.Context(), "vm-1"); err != nil || !v.Free() {
		t.Errorf("afterwards: %+v, %v", v, err)
	}
	// curl sends none of these headers; our own pages send their own origin.
	wantStatus(t, a.Do(t.Context(), testkit.Request{Path: "/api/vms", Admin: true, JSON: map[string]string{"hostname": "vm-2"}}), http.StatusCreated)
	wantStatus(t, a.Do(t.Context(), testkit.Request{Path: "/api/request_vm", Form: "email=a@example.org&crd_command=4/0abc",
		Header: map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": a.URL}}), http.StatusSeeOther)
}

func TestRegister(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	register := func(body any) testkit.Response {
		return a.Do(t.Context(), testkit.Request{Path: "/api/vms", Admin: true, JSON: body})
	}
	names := func(n int) []string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("host-%d", i))
		}
		return list
	}
	live := func() int {
		statuses, err := a.Store.Statuses(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(statuses)
	}

	r := register(map[string]string{"hostname": "vm-1"})
	wantStatus(t, r, http.StatusCreated)
	var one struct{ Hostname, Token string }
	r.JSON(t, &one)
	if one.Hostname != "vm-1" || len(one.Token) < 43 || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s, Cache-Control %q", r.Body, r.Header.Get("Cache-Control"))
	}
	if v, err := a.Store.VM(t.Context(), "vm-1"); err != nil || v.Status != "unknown" || v.Free() {
		t.Errorf("a registered VM that never reported: %+v, %v", v, err)
	}
	for name, tc := range map[string]struct {
		body any
		want int
		says string
	}{
		"a name that is taken":    {map[string]string{"hostname": "vm-1"}, 409, "vm-1"},
		"one of several is taken": {map[string]any{"hostnames": []string{"new-1", "vm-1", "new-2"}}, 409, "vm-1"},
		"twice in the list":       {map[string]any{"hostnames": []string{"new-1", "new-1"}}, 400, "twice"},
		"one bad name":            {map[string]any{"hostnames": []string{"new-1", "Bad_Name"}}, 400, "Bad_Name"},
		"an empty name":           {map[string]string{"hostname": ""}, 400, "hostname"},
		"NUL":                     {map[string]string{"hostname": "a\x00"}, 400, "hostname"},
		"no name":                 {map[string]any{}, 400, "hostnames"},
		"an empty list":           {map[string]any{"hostnames": []string{}}, 400, "1 to 1000"},
		"both forms":              {map[string]any{"hostname": "a", "hostnames": []string{"b"}}, 400, "not both"},
		"too many":                {map[string]any{"hostnames": names(1001)}, 400, "1000"},
		"a number":                {map[string]any{"hostname": 5}, 400, "hostname must be a string"},
	} {
		if got := register(tc.body); got.Status != tc.want || !strings.Contains(got.Body, tc.says) || strings.Contains(got.Body, "token") {
			t.Errorf("%s: %d %s, want %d with %q", name, got.Status, got.Body, tc.want, tc.says)
		}
	}
	if n := live(); n != 1 {
		t.Fatalf("after the refusals there are %d VMs, want 1: all or nothing", n)
	}
	r = register(map[string]any{"hostnames": names(1000)})
	wantStatus(t, r, http.StatusCreated)
	var many struct {
		VMs []struct{ Hostname, Token string }
	}
	r.JSON(t, &many)
	tokens := map[string]bool{}
	for _, vm := range many.VMs {
		tokens[vm.Token] = true
	}
	if n := live(); n != 1001 || len(many.VMs) != 1000 || len(tokens) != 1000 || many.VMs[999].Hostname != "host-999" {
		t.Errorf("%d VMs, %d in the answer, %d different tokens", n, len(many.VMs), len(tokens))
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	token := a.Register("vm-1")["vm-1"]
	remove := func(hostname string) testkit.Response {
		return a.Do(t.Context(), testkit.Request{Method: http.MethodDelete, Path: "/api/vms/" + hostname, Admin: true})
	}
	wantStatus(t, remove("nobody"), http.StatusNotFound)
	wantStatus(t, remove("%00"), http.StatusBadRequest)
	request(t, a, 1)
	if r := remove("vm-1"); r.Status != http.StatusConflict || !strings.Contains(r.Body, "held") {
		t.Errorf("a held VM: %d %s", r.Status, r.Body)
	}
	a.Register("vm-2")
	r := remove("vm-2")
	wantStatus(t, r, http.StatusNoContent)
	if r.Body != "" {
		t.Errorf("a 204 with the body %q", r.Body)
	}
	wantStatus(t, remove("vm-2"), http.StatusNotFound)
	if r := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/api/vm-status/vm-2"}); r.Status != http.StatusNotFound {
		t.Errorf("the status of a removed VM: %d", r.Status)
	}
	report := machineRoutes("vm-1")[0]
	report.Token = token
	wantStatus(t, a.Do(t.Context(), report), http.StatusOK)
}
