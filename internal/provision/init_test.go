package provision_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lablink/internal/provision"
)

// A working folder is initialised once, and again whenever something has changed
// or seems to be wrong.
func TestOpen_InitialisesOnce(t *testing.T) {
	t.Parallel()
	w, out := fake(t, map[string]string{
		"init.sh": "echo initialised; mkdir -p .terraform; touch .terraform.lock.hcl",
		"plan.sh": "exit 1",
	})
	inits := 0
	opens := func(what string, again bool) {
		t.Helper()
		if again {
			inits++
		}
		if err := w.Open(t.Context()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got := strings.Count(out.text(), "initialised"); got != inits {
			t.Errorf("%s: initialised %d times, want %d", what, got, inits)
		}
		if _, err := os.Stat(filepath.Join(w.Dir, ".terraform.lock.hcl")); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	opens("first", true)
	opens("unchanged", false)
	module := files(map[string]string{"init.sh": "echo initialised; touch .terraform.lock.hcl", "plan.sh": "exit 1"})
	w.Provider.Module = module
	opens("another module", true)
	opens("unchanged", false)
	w.Backend = provision.Backend{S3: &provision.S3{Bucket: "b", Region: "r", Key: "k"}}
	opens("another backend", true)
	if _, err := w.Plan(t.Context(), nil, nil, func(string) bool { return false }); err == nil {
		t.Fatal("the plan succeeds")
	}
	opens("after a failed plan", true)
	if err := os.RemoveAll(filepath.Join(w.Dir, ".terraform")); err != nil {
		t.Fatal(err)
	}
	opens("after .terraform is gone", true)
	opens("unchanged", false)
}
