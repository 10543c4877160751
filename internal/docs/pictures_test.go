package docs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestPictures compares the diagrams in docs/images with what lablink draws. It
// is a program of its own, because the race detector makes the layout ten times
// slower.
func TestPictures(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, args := range [][]string{
		{"go", "build", "-o", filepath.Join(dir, "lablink"), "./cmd/lablink"},
		{filepath.Join(dir, "lablink"), "diagram", "--format", "svg", "--no-timestamp-runs", "--output-dir", dir},
	} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
	}
	drawn, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil || len(drawn) != 6 {
		t.Fatalf("%d pictures, %v", len(drawn), err)
	}
	for _, path := range drawn {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(root, "docs", "images", filepath.Base(path))
		if *update {
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is out of date, run go test ./internal/docs -update (%v)", name, err)
		}
	}
}
