package server_test

import (
	"net/http"
	"strings"
	"testing"

	"lablink/internal/fleet"
	"lablink/internal/testkit"
)

// A VM in error says why, and an admin sees it until the VM is well again.
func TestVMProblem(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	token := a.Register("lab-1")["lab-1"]
	report := func(body map[string]any) {
		t.Helper()
		body["hostname"] = "lab-1"
		if r := a.Do(t.Context(), testkit.Request{Path: "/api/vm-status", Token: token, JSON: body}); r.Status != http.StatusOK {
			t.Fatalf("%v: %d %s", body, r.Status, r.Body)
		}
	}
	problem := func() string {
		t.Helper()
		vm, err := a.Store.VM(t.Context(), "lab-1")
		if err != nil {
			t.Fatal(err)
		}
		return vm.Problem
	}
	pages := func() string {
		t.Helper()
		text := ""
		for _, path := range []string{"/admin/instances", "/admin/instances/lab-1"} {
			r := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: path, Admin: true})
			if r.Status != http.StatusOK {
				t.Fatalf("%s: %d", path, r.Status)
			}
			text += r.Body
		}
		return text
	}
	report(map[string]any{"status": "error", "reason": "docker pull:\x1b[31m no <such> image\r\n at all"})
	if got := problem(); got != "docker pull: [31m no <such> image at all" {
		t.Errorf("problem %q", got)
	}
	if text := pages(); strings.Count(text, "no &lt;such&gt; image at all") != 3 { // the table, the state and the history
		t.Errorf("pages: %s", text)
	}
	report(map[string]any{"status": "error", "reason": strings.Repeat("ü", 600)})
	if got := problem(); got != strings.Repeat("ü", 500) {
		t.Errorf("%d characters are kept", len([]rune(got)))
	}
	report(map[string]any{"status": "running", "reason": "none of this counts"})
	if got := problem(); got != "" {
		t.Errorf("problem of a VM that runs: %q", got)
	}
	report(map[string]any{"status": "error"}) // as existing clients do
	if got := problem(); got != "" {
		t.Errorf("problem %q", got)
	}
	vm, err := a.Store.VM(t.Context(), "lab-1")
	if err != nil || vm.Status != fleet.StatusError {
		t.Errorf("%+v, %v", vm, err)
	}
}
