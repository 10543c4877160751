package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"lablink/internal/wire"
)

var routePattern = regexp.MustCompile(`^(GET|POST|PUT|PATCH|DELETE) (/\S*)$`)

// TestRoutes compares the routes of docs/api.md with those in the source.
func TestRoutes(t *testing.T) {
	t.Parallel()
	var documented []string
	for _, piece := range readPage(t, "docs/api.md").code(t) {
		if piece.inline && routePattern.MatchString(piece.text) {
			documented = append(documented, piece.text)
		}
	}
	slices.Sort(documented)
	documented = slices.Compact(documented)
	registered := routes(t)
	for _, r := range registered {
		if !slices.Contains(documented, r) {
			t.Errorf("docs/api.md does not name %s", r)
		}
	}
	for _, r := range documented {
		if !slices.Contains(registered, r) {
			t.Errorf("docs/api.md names %s, which is not registered", r)
		}
	}
	if len(registered) < 25 {
		t.Errorf("only %d routes found in the source", len(registered))
	}
}

// routes returns the patterns of all routes.
func routes(t *testing.T) []string {
	t.Helper()
	var found []string
	eachRoute(t, func(_, pattern string, _ *ast.CallExpr) { found = append(found, strings.TrimSuffix(pattern, "{$}")) })
	slices.Sort(found)
	return slices.Compact(found)
}

// eachRoute calls do with the patterns with a method that stand as an argument of
// a call in the packages that serve HTTP.
func eachRoute(t *testing.T, do func(dir, pattern string, call *ast.CallExpr)) {
	t.Helper()
	for _, dir := range []string{"api", "web", "server"} {
		files, err := filepath.Glob(filepath.Join(root, "internal", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) < 2 {
					return true
				}
				if pattern := text(t, call.Args[0]); routePattern.MatchString(pattern) {
					do(dir, pattern, call)
				}
				return true
			})
		}
	}
}

// text evaluates strings, paths of package wire, and sums of both; "" is for
// everything else.
func text(t *testing.T, e ast.Expr) string {
	t.Helper()
	paths := map[string]string{
		"PathStartup": wire.PathStartup, "PathCRDResult": wire.PathCRDResult, "PathStatus": wire.PathStatus,
		"PathGPU": wire.PathGPU, "PathInUse": wire.PathInUse, "PathMetrics": wire.PathMetrics, "PathLogs": wire.PathLogs,
	}
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		if e.Kind != token.STRING || err != nil {
			return ""
		}
		return s
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); !ok || x.Name != "wire" {
			return ""
		}
		path, ok := paths[e.Sel.Name]
		if strings.HasPrefix(e.Sel.Name, "Path") && !ok {
			t.Errorf("wire.%s is new: add it to this test", e.Sel.Name)
		}
		return path
	case *ast.BinaryExpr:
		return text(t, e.X) + text(t, e.Y)
	default:
		return ""
	}
}

// TestMetrics compares the metrics that docs/operators.md names with those that
// the source defines.
func TestMetrics(t *testing.T) {
	t.Parallel()
	metric := regexp.MustCompile(`\blablink_[a-z_]+`)
	defined := map[string]bool{}
	err := filepath.WalkDir(filepath.Join(root, "internal"), func(name string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && metric.MatchString(lit.Value) {
				defined[strings.Trim(lit.Value, "\"`")] = true
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, piece := range readPage(t, "docs/operators.md").code(t) {
		for _, name := range metric.FindAllString(piece.text, -1) {
			base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")
			if strings.HasSuffix(base, "_db") { // lablink_db, a database of the Python system
				continue
			}
			named++
			if !defined[base] {
				t.Errorf("docs/operators.md:%d: there is no metric %s", piece.line, name)
			}
		}
	}
	if named < 4 {
		t.Errorf("docs/operators.md names only %d metrics", named)
	}
}
