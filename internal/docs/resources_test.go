package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lablink/internal/tffiles"
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
	folder, err := tffiles.Read(os.DirFS(filepath.Join(root, dir)), dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, r := range folder.Resources {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r.Address(), r.When())
	}
	return b.String()
}
