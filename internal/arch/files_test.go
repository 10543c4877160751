package arch_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// maxLines is where a file must be split. Half of it is a good length.
const maxLines = 600

// sourceFiles returns the content of every Go file under cmd and internal, by
// its path.
func sourceFiles(t *testing.T) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for _, dir := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" {
				return err
			}
			content, err := os.ReadFile(path)
			files[path] = content
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestFilesAreShort(t *testing.T) {
	for path, content := range sourceFiles(t) {
		if bytes.HasPrefix(content, []byte("// Code generated ")) {
			continue
		}
		if lines := bytes.Count(content, []byte("\n")); lines > maxLines {
			t.Errorf("%s has %d lines, more than %d: split it", path, lines, maxLines)
		}
	}
}

// Files that others wrote are kept as they were published, and VERSIONS names
// each one.
func TestVendoredFiles(t *testing.T) {
	for _, dir := range []string{"internal/web/static/vendor", "internal/browser/testdata"} {
		dir = filepath.Join(root, dir)
		versions, err := os.ReadFile(filepath.Join(dir, "VERSIONS"))
		if err != nil {
			t.Fatal(err)
		}
		want := make(map[string]string)
		for line := range strings.Lines(string(versions)) {
			if fields := strings.Fields(line); len(fields) == 5 && fields[0] != "#" {
				want[fields[0]] = fields[4]
			}
		}
		scripts, err := filepath.Glob(filepath.Join(dir, "*.js"))
		if err != nil {
			t.Fatal(err)
		}
		if len(want) == 0 || len(scripts) != len(want) {
			t.Errorf("%s holds %d scripts, its VERSIONS lists %d", dir, len(scripts), len(want))
		}
		for _, path := range scripts {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(content)
			if got := hex.EncodeToString(sum[:]); got != want[filepath.Base(path)] {
				t.Errorf("%s has SHA-256 %s, VERSIONS says %q", path, got, want[filepath.Base(path)])
			}
		}
	}
}
