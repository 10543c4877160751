package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// verbPattern matches what fmt puts a value in the place of.
var verbPattern = regexp.MustCompile(`%[-+#0-9.]*[a-zA-Z]`)

// messages are what people and programs are told by errors of package fleet,
// with "…" for what differs, by the place that says it.
func messages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, dir := range []string{"fleet", "httpx", "store", "api", "web", "server"} {
		err := filepath.WalkDir(filepath.Join(root, "internal", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			files := token.NewFileSet()
			f, err := parser.ParseFile(files, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if text := messageIn(n); text != "" {
					found[verbPattern.ReplaceAllString(text, "…")] = files.Position(n.Pos()).String()
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// messageIn returns the words of a call that makes an error, or of a field
// Message, "" if it is neither.
func messageIn(n ast.Node) string {
	switch n := n.(type) {
	case *ast.CallExpr:
		name := ""
		switch f := n.Fun.(type) {
		case *ast.Ident:
			name = f.Name
		case *ast.SelectorExpr:
			if x, ok := f.X.(*ast.Ident); ok && x.Name == "fleet" {
				name = f.Sel.Name
			}
		}
		if name != "Errorf" && name != "FieldErrorf" && name != "commandError" {
			return ""
		}
		for _, arg := range n.Args {
			// The first argument may be the name of a field, or a kind.
			if text := literal(arg); strings.Contains(text, " ") {
				return text
			}
		}
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Message" {
			return words(n.Value)
		}
	}
	return ""
}

// words joins the literals of a text that is put together.
func words(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return words(e.X) + words(e.Y)
	case *ast.CallExpr:
		if len(e.Args) > 0 && literal(e.Args[0]) != "" {
			return literal(e.Args[0])
		}
		return "…"
	default:
		return literal(e)
	}
}

func literal(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	text, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return text
}

// TestMessages looks every message of the program up on the page about them, and
// every message of the page in the program.
func TestMessages(t *testing.T) {
	t.Parallel()
	p := readPage(t, "docs/troubleshooting.md")
	page := strings.Join(p.lines, "\n")
	found := messages(t)
	for text, place := range found {
		if strings.Trim(text, "…: ") != "" && strings.Contains(text, " ") && !strings.Contains(page, "| "+text+" |") {
			t.Errorf("%s: docs/troubleshooting.md has no row for %q", place, text)
		}
	}
	if len(found) < 80 {
		t.Errorf("only %d messages were found in the source", len(found))
	}
	said, rows := literals(t), 0
	for i, line := range p.lines {
		cells := strings.Split(line, " | ")
		if len(cells) < 2 || strings.HasPrefix(line, "| ---") || strings.Contains(line, "| message |") || strings.Contains(line, "| an operation says |") {
			continue
		}
		rows++
		for part := range strings.SplitSeq(strings.TrimPrefix(cells[0], "| "), "…") {
			if part = strings.Trim(part, ": "); !strings.Contains(said, part) {
				t.Errorf("%s:%d: nothing in the program says %q", p.name, i+1, part)
			}
		}
	}
	if rows < 80 {
		t.Errorf("only %d rows were found", rows)
	}
}

// literals are all texts in the source of the program.
func literals(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(filepath.Join(root, "internal"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if e, ok := n.(*ast.BinaryExpr); ok {
				all.WriteString(words(e) + "\n")
			}
			if e, ok := n.(ast.Expr); ok {
				all.WriteString(literal(e) + "\n")
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
