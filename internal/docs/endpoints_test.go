package docs_test

import (
	"encoding/json"
	"go/ast"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lablink/internal/diagram"
)

// TestEndpoints compares the route table that is drawn with the source.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	var list []diagram.Endpoint
	eachRoute(t, func(dir, pattern string, call *ast.CallExpr) {
		method, path, _ := strings.Cut(strings.TrimSuffix(pattern, "{$}"), " ")
		e := diagram.Endpoint{Method: method, Path: path, Held: strings.HasSuffix(path, "events") || path == "/vm_startup"}
		e.Caller, e.Group = who(dir, call, method, path)
		if e.Caller == "" {
			t.Errorf("who may call %s? Tell this test", pattern)
		}
		list = append(list, e)
	})
	order := []string{"Participant", "VM", "Admin", "Anybody", "Monitoring"}
	slices.SortStableFunc(list, func(a, b diagram.Endpoint) int {
		return slices.Index(order, a.Caller) - slices.Index(order, b.Caller)
	})
	want, err := json.MarshalIndent(list, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(root, "internal", "diagram", "endpoints.json")
	if *update {
		if err := os.WriteFile(name, append(want, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), string(want)+"\n"); diff != "" {
		t.Errorf("%s is out of date, run go test ./internal/docs -update:\n%s", name, diff)
	}
}

// who tells who may call what a statement registers, by how it does.
func who(dir string, call *ast.CallExpr, method, path string) (caller, group string) {
	inside := false // some part of the statement asks who the admin is
	ast.Inspect(call, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && (s.Sel.Name == "Admin" || s.Sel.Name == "logReaders") {
			inside = true
		}
		return true
	})
	function := ""
	if f, ok := call.Fun.(*ast.Ident); ok {
		function = f.Name
	}
	switch {
	case dir == "server":
		return "Monitoring", "Health and metrics"
	case dir == "api" && (inside || function == "admin" || function == "form"):
		return "Admin", "Machines and operations"
	case dir == "api" && method == "POST":
		return "VM", "What VMs report, and wait for"
	case dir == "api":
		return "Anybody", "Questions"
	case dir == "web" && strings.HasPrefix(function, "admin"):
		return "Admin", "The admin's pages"
	case dir == "web" && (strings.HasPrefix(path, "/static") || strings.HasPrefix(path, "/favicon")):
		return "Anybody", "Style, script, picture"
	case dir == "web":
		return "Participant", "The participant's pages"
	default:
		return "", ""
	}
}
