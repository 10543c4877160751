package provision_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lablink/internal/provision"
)

// program makes an executable file, which is never run.
func program(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindBinary(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("PATH", filepath.Join(dir, "one")+string(os.PathListSeparator)+filepath.Join(dir, "two"))
	find := func(configured, want string) {
		t.Helper()
		if got, err := provision.FindBinary(configured); err != nil || got != want {
			t.Errorf("FindBinary(%q) = %q, %v; want %q", configured, got, err, want)
		}
	}
	if _, err := provision.FindBinary(""); !errors.Is(err, provision.ErrNoBinary) {
		t.Errorf("error: %v", err)
	}
	built := program(t, filepath.Join(dir, ".tools", "tofu"))
	find("", built)
	terraform := program(t, filepath.Join(dir, "one", "terraform"))
	find("", terraform)
	tofu := program(t, filepath.Join(dir, "two", "tofu"))
	find("", tofu)
	find("terraform", terraform)
	find(built, built)
	find(".tools/tofu", built)
	write(t, filepath.Join(dir, "text"), "not a program")
	for _, configured := range []string{"/nowhere/tofu", "opentofu", "./text"} {
		if _, err := provision.FindBinary(configured); err == nil || !strings.HasPrefix(err.Error(), "provision.terraform: ") {
			t.Errorf("FindBinary(%q): %v", configured, err)
		}
	}
}
