package demo

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// build makes the program, for the agents, in a folder of its own.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "lablink")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "lablink/cmd/lablink")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

func TestRun_VMCannotBeSetUp(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := Run(t.Context(), Options{Listen: "127.0.0.1:0", VMs: 1, Once: true, Binary: build(t), Out: &out, code: "4/0expired"})
	if err == nil || !strings.Contains(err.Error(), "phase 4: demo-vm-1 could not be set up: ") {
		t.Errorf("error = %v", err)
	}
	if !strings.Contains(out.String(), "Phase 3:") || strings.Contains(out.String(), "Phase 5:") {
		t.Errorf("the story:\n%s", out.String())
	}
	_, where, ok := strings.Cut(out.String(), "The end of ")
	if file, _, _ := strings.Cut(where, ":\n"); !ok || !strings.HasSuffix(file, "agent.log") {
		t.Errorf("the logs are not shown:\n%s", out.String())
	} else if _, err := os.Stat(filepath.Dir(filepath.Dir(file))); !os.IsNotExist(err) {
		t.Errorf("the folder is left: %v", err)
	}
	if strings.Contains(where, "4/0expired") {
		t.Error("the logs hold the code")
	}
}

func TestRun_AgentsDoNotStart(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := Run(t.Context(), Options{Listen: "127.0.0.1:0", VMs: 1, Once: true, Binary: filepath.Join(t.TempDir(), "absent"), Out: &out})
	if err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("error = %v", err)
	}
}

func TestRun_Interrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, once := range []bool{true, false} {
		var out bytes.Buffer
		err := Run(ctx, Options{Listen: "127.0.0.1:0", VMs: 1, Once: once, Binary: "absent", Out: &out})
		// A story that was not told to its end is no success.
		if (err != nil) != once {
			t.Errorf("once %v: %v", once, err)
		}
	}
}
