package arch_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "lablink"
)

// pkg is what the tests need of one package in the output of go list.
type pkg struct {
	ImportPath string   `json:"ImportPath"`
	Doc        string   `json:"Doc"`
	GoFiles    []string `json:"GoFiles"`
	Imports    []string `json:"Imports"`
	Deps       []string `json:"Deps"`
}

// area names the part of the system a package belongs to: "store" for
// lablink/internal/store and everything below it, "cmd/lablink" for a program,
// and nothing for a package that is not ours.
func area(importPath string) string {
	if name, ok := strings.CutPrefix(importPath, module+"/internal/"); ok {
		name, _, _ = strings.Cut(name, "/")
		return name
	}
	if name, ok := strings.CutPrefix(importPath, module+"/"); ok {
		return name
	}
	return ""
}

func (p pkg) area() string { return area(p.ImportPath) }

// areas are the other parts of the system among the import paths.
func (p pkg) areas(importPaths []string) []string {
	var names []string
	for _, path := range importPaths {
		if name := area(path); name != "" && name != p.area() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func isStandard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return first != module && !strings.Contains(first, ".")
}

// isDatabase reports whether a package is there to talk to a database.
func isDatabase(importPath string) bool {
	return importPath == "database/sql" ||
		strings.HasPrefix(importPath, "github.com/jackc/") ||
		strings.HasPrefix(importPath, "github.com/pressly/goose/")
}

// list returns all packages of the module. It reads the source files first:
// go test does not see what its child go list reads, and would otherwise
// repeat an old result from its cache.
func list(t *testing.T) []pkg {
	t.Helper()
	if files := sourceFiles(t); len(files) == 0 {
		t.Fatal("no source files found")
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Doc,GoFiles,Imports,Deps", "./...")
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}

	var pkgs []pkg
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var p pkg
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("output of go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
	for _, want := range []string{"fleet", "arch"} {
		if !slices.ContainsFunc(pkgs, func(p pkg) bool { return p.area() == want }) {
			t.Fatalf("go list does not list internal/%s; it lists %d packages", want, len(pkgs))
		}
	}
	return pkgs
}

func TestImports(t *testing.T) {
	// What each area may import of ours. Areas that are not named may import
	// anything but what onlyFrom keeps for others.
	allowed := map[string][]string{
		"arch":       {},
		"fleet":      {},
		"wire":       {},
		"wait":       {},
		"config":     {},
		"pgserver":   {},
		"awsaccount": {},
		"awsfleet":   {"config", "provision"},
		"store":      {"fleet"},
		"redact":     {},
		"provision":  {"fleet", "redact"},
		"httpx":      {"fleet"},
		"agent":      {"fleet", "wire"},
		"logship":    {"fleet", "wire"},
		"logtext":    {"fleet", "redact"},
		"tffiles":    {},
		"diagram":    {"tffiles", "wire"},
	}
	// Which areas nobody may import, except for these.
	onlyFrom := map[string][]string{
		"api":       {"server"},
		"web":       {"server"},
		"jobs":      {"server"},
		"provision": {"server", "jobs", "awsfleet", "testkit", "cli"},
		"diagram":   {"cli"},
		"awsfleet":  {"server"},
		"pgserver":  {"server", "cli", "testkit"},
		"server":    {"cli", "demo", "testkit"},
		"demo":      {"cli"},
		"cli":       {"cmd/lablink"},
		"logship":   {"cmd/lablink-logproc"},
		"testkit":   {},
	}
	databaseUsers := []string{"store", "pgserver", "testkit"}

	for _, p := range list(t) {
		name := p.area()
		for _, imported := range p.areas(p.Imports) {
			if may, ok := allowed[name]; ok && !slices.Contains(may, imported) {
				t.Errorf("%s imports %s of ours; it may import %v", p.ImportPath, imported, may)
			}
			if by, ok := onlyFrom[imported]; ok && !slices.Contains(by, name) {
				t.Errorf("%s imports %s; only %v may", p.ImportPath, imported, by)
			}
		}
		for _, imported := range p.Imports {
			if name == "fleet" && !isStandard(imported) {
				t.Errorf("%s imports %s; it may import the standard library only", p.ImportPath, imported)
			}
			if isDatabase(imported) && !slices.Contains(databaseUsers, name) {
				t.Errorf("%s imports %s; only %v may", p.ImportPath, imported, databaseUsers)
			}
			if imported == "testing" && name != "testkit" {
				t.Errorf("%s imports testing outside of its tests", p.ImportPath)
			}
		}
	}
}

// The log processor is paid for by its memory and start-up time, and lives far
// from the server.
func TestLogProcessorIsSmall(t *testing.T) {
	may := []string{"fleet", "logship", "wire"}
	found := false
	for _, p := range list(t) {
		if p.area() != "cmd/lablink-logproc" {
			continue
		}
		found = true
		for _, linked := range p.areas(p.Deps) {
			if !slices.Contains(may, linked) {
				t.Errorf("%s links %s; it may link %v", p.ImportPath, linked, may)
			}
		}
		for _, linked := range p.Deps {
			if area(linked) == "" && !isStandard(linked) && !strings.HasPrefix(linked, "github.com/aws/aws-lambda-go/") {
				t.Errorf("%s links %s", p.ImportPath, linked)
			}
		}
	}
	if !found {
		t.Error("there is no log processor")
	}
}

func TestPackagesAreDocumented(t *testing.T) {
	for _, p := range list(t) {
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}
