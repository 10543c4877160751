package demo

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lablink/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// options are those of a demo on a free port.
func options(t *testing.T, o Options) Options {
	t.Helper()
	o.Listen = "127.0.0.1:0"
	if o.Binary == "" {
		o.Binary = testkit.Program(t)
	}
	if o.Terraform == "" {
		o.Terraform = testkit.Terraform(t)
	}
	return o
}

func TestRun_VMCannotBeSetUp(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := Run(t.Context(), options(t, Options{VMs: 1, Once: true, Out: &out, code: "4/0expired"}))
	if err == nil || !strings.Contains(err.Error(), "phase 4: lablink-client-1 could not be set up: ") {
		t.Errorf("error = %v", err)
	}
	if !strings.Contains(out.String(), "Phase 3:") || strings.Contains(out.String(), "Phase 5:") {
		t.Errorf("the story:\n%s", out.String())
	}
	_, where, _ := strings.Cut(out.String(), "The end of ")
	file, _, _ := strings.Cut(where, ":\n")
	folder, inside, ok := strings.Cut(file, "/data/machines/")
	if !ok || inside != "lablink-client-1/agent.log" {
		t.Errorf("the logs are not shown:\n%s", out.String())
	} else if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the folder is left: %v", err)
	}
	if strings.Contains(where, "4/0expired") {
		t.Error("the logs hold the code")
	}
}

// What Terraform says of an agent that does not start is shown.
func TestRun_AgentsDoNotStart(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := Run(t.Context(), options(t, Options{VMs: 2, Once: true, Binary: filepath.Join(t.TempDir(), "absent"), Out: &out}))
	if err == nil || !strings.Contains(err.Error(), "the launch has failed: ") || !strings.Contains(err.Error(), "absent") {
		t.Errorf("error = %v", err)
	}
	if _, output, ok := strings.Cut(out.String(), "The end of what Terraform wrote:"); !ok || !strings.Contains(output, "absent") {
		t.Errorf("Terraform's output is not shown:\n%s", out.String())
	}
	if strings.Contains(out.String(), "Phase 2:") {
		t.Errorf("the story:\n%s", out.String())
	}
}

// Without Terraform there is a clear error, and nothing that buries it.
func TestRun_NoTerraform(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	absent := filepath.Join(t.TempDir(), "absent")
	err := Run(t.Context(), options(t, Options{VMs: 1, Terraform: absent, Binary: "unused", Out: &out}))
	if err == nil || !strings.Contains(err.Error(), "the launch has failed: provision.terraform: ") || !strings.Contains(err.Error(), absent) {
		t.Errorf("error = %v", err)
	}
	if strings.Contains(out.String(), "The end of") {
		t.Errorf("the story:\n%s", out.String())
	}
}

func TestRun_Interrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, once := range []bool{true, false} {
		var out bytes.Buffer
		err := Run(ctx, options(t, Options{VMs: 1, Once: once, Binary: "unused", Terraform: "unused", Out: &out}))
		// A story that was not told to its end is no success.
		if (err != nil) != once {
			t.Errorf("once %v: %v", once, err)
		}
	}
}

// When Terraform fails at the end, the demo says so, and the agents end
// nevertheless.
func TestRun_VMsCannotBeDestroyed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broken, terraform := filepath.Join(dir, "broken"), filepath.Join(dir, "terraform")
	script := "#!/bin/sh\nif [ \"$1\" = apply ] && [ -e '" + broken + "' ]; then echo 'out of order' >&2; exit 1; fi\nexec '" + testkit.Terraform(t) + "' \"$@\"\n"
	if err := os.WriteFile(terraform, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &testkit.LogBuffer{}
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, options(t, Options{VMs: 2, Terraform: terraform, Out: out})) }()
	testkit.Eventually(t, "the demo to wait", func() bool { return strings.Contains(out.String(), "What to do now") || len(ended) > 0 })
	_, log, _ := strings.Cut(out.String(), "The allocator's log ")
	log, _, _ = strings.Cut(strings.TrimSpace(log), "\n")
	folder := filepath.Dir(log)
	if agentOf(filepath.Join(folder, "data", "machines", "lablink-client-1"), "lablink-client-1") == 0 {
		t.Fatalf("there is no agent in %s:\n%s", folder, out)
	}
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cancel()
	err := <-ended
	if err == nil || !strings.Contains(err.Error(), "the machines could not be destroyed: the destroy has failed: ") {
		t.Errorf("error = %v", err)
	}
	for _, say := range []string{"Terraform destroys 2 VMs", "out of order", "Ended the processes of lablink-client-1, lablink-client-2"} {
		if !strings.Contains(out.String(), say) {
			t.Errorf("%q is missing in:\n%s", say, out)
		}
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the folder is left: %v", err)
	}
	if left := agents(t, folder); len(left) > 0 {
		t.Errorf("agents are left: %v", left)
	}
}

// agents lists the processes that name a folder.
func agents(t *testing.T, folder string) (found []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && bytes.Contains(data, []byte(folder)) { // others end while we look
			found = append(found, string(bytes.ReplaceAll(data, []byte{0}, []byte{' '})))
		}
	}
	return found
}
