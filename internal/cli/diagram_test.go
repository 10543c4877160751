package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lablink/internal/cli"
)

func runDiagram(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = cli.Main(t.Context(), append([]string{"diagram"}, args...), strings.NewReader(""), &out, &errOut)
	return code, out.String(), errOut.String()
}

func TestDiagram(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "main")
	code, out, errOut := runDiagram(t, "--diagram-type", "crd-connection", "--preset", "poster", "--format", "all", "--dpi", "40", "--output-dir", dir)
	if code != 0 || errOut != "" {
		t.Fatalf("exit code %d: %s", code, errOut)
	}
	paths := strings.Fields(out)
	if len(paths) != 3 {
		t.Fatalf("pictures: %v", paths)
	}
	for _, path := range paths {
		rel, err := filepath.Rel(filepath.Dir(dir), path)
		if err != nil || !strings.HasPrefix(rel, "run_2") || !strings.Contains(rel, "/main/lablink-crd-connection.") {
			t.Errorf("%s is not in a folder of this run beside main", path)
		}
		if info, err := os.Stat(path); err != nil || info.Size() < 1000 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	about, err := os.ReadFile(filepath.Join(filepath.Dir(paths[0]), "diagram_metadata.txt"))
	if err != nil || !strings.Contains(string(about), "Terraform source: deploy/aws") || !strings.Contains(string(about), "preset: poster") {
		t.Errorf("metadata: %s, %v", about, err)
	}
}

func TestDiagram_Errors(t *testing.T) {
	t.Parallel()
	empty, bad := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(bad, "main.tf"), []byte("\nresource \"a\" \"b\" {\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"unknown type":   {[]string{"--diagram-type", "detailed"}, 2, `no diagram type "detailed": use main, crd-connection, `},
		"unknown preset": {[]string{"--preset", "huge"}, 2, `no preset "huge"`},
		"unknown format": {[]string{"--format", "gif"}, 2, `no format "gif"`},
		"no resolution":  {[]string{"--dpi", "0"}, 2, "--dpi: 0 is not from 20 to 1200"},
		"both":           {[]string{"--timestamp-runs", "--no-timestamp-runs"}, 1, "timestamp-runs"},
		"no folder":      {[]string{"--terraform-dir", filepath.Join(empty, "no")}, 1, "there is no folder"},
		"no files":       {[]string{"--terraform-dir", empty}, 1, "has no Terraform files (*.tf)"},
		"bad file":       {[]string{"--client-vm-terraform-dir", bad}, 1, filepath.Join(bad, "main.tf") + ":2,18-19: Unclosed"},
	} {
		code, out, errOut := runDiagram(t, append(test.args, "--output-dir", empty)...)
		if code != test.code || out != "" || !strings.Contains(errOut, test.want) {
			t.Errorf("%s: exit code %d, %q, %q", name, code, out, errOut)
		}
	}
}
