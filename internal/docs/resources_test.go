package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// TestResources compares docs/infrastructure.md with the Terraform files.
func TestResources(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, module := range []struct{ dir, title string }{
		{"deploy/aws", "For the allocator and the log processor, by whoever sets them up"},
		{"internal/provision/module/aws", "For the VMs, by the provider `aws`"},
	} {
		fmt.Fprintf(&b, "### %s\n\nIn `%s`:\n\n| resource | made |\n| --- | --- |\n%s\n", module.title, module.dir, resources(t, module.dir))
	}
	generated(t, "infrastructure.md", map[string]string{"resources": b.String()})
}

// resources are the rows of a table of what a folder with Terraform files makes.
func resources(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*.tf"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d Terraform files, %v", dir, len(files), err)
	}
	var b strings.Builder
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, diags := hclsyntax.ParseConfig(source, file, hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		body, ok := f.Body.(*hclsyntax.Body)
		if !ok {
			t.Fatalf("%s is not in Terraform's own syntax", file)
		}
		for _, block := range body.Blocks {
			if block.Type != "resource" {
				continue
			}
			made := "always"
			for name, words := range map[string]string{"count": "if", "for_each": "for each of"} {
				if a := block.Body.Attributes[name]; a != nil {
					text := strings.TrimSuffix(string(a.Expr.Range().SliceBytes(source)), " ? 1 : 0")
					if condition, not := strings.CutSuffix(text, ` == "" ? 0 : 1`); not {
						text = condition + ` != ""`
					}
					made = words + " `" + strings.Join(strings.Fields(text), " ") + "`"
				}
			}
			fmt.Fprintf(&b, "| `%s` | %s |\n", strings.Join(block.Labels, "."), made)
		}
	}
	return b.String()
}
