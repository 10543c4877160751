package cli_test

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"lablink/internal/testkit"
)

// demo starts a demo that keeps everything in a folder of the test's own.
func demo(t *testing.T, args ...string) (p *proc, dir string) {
	t.Helper()
	dir = dataDir(t)
	return start(t, []string{"TMPDIR=" + dir, "LABLINK_PROVISION_TERRAFORM=" + testkit.Terraform(t)}, append([]string{"demo"}, args...)...), dir
}

// nothingLeft fails if a demo left a process or a file.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	left := processesOf(t, dir)
	if len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	end(left)
	files, err := os.ReadDir(dir)
	if err != nil || len(files) > 0 {
		t.Errorf("files are left: %v, %v", files, err)
	}
}

func TestDemo_Once(t *testing.T) {
	t.Parallel()
	p, dir := demo(t, "--once", "--vms", "2")
	if err := p.wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	out := p.out.String()
	at := 0
	for _, phase := range []string{
		"The allocator answers", "Phase 1:", "Terraform made 2 VMs", "Phase 2: 2 VMs", "Phase 3:", "Phase 4:", "Phase 5:", "Still waiting: 1 VM", "Logs:",
		"Destroyed lablink-client-", "is untouched", "Destroyed all the others, 1 VM; nothing is left",
	} {
		next := strings.Index(out[at:], phase)
		if next < 0 {
			t.Fatalf("%q is missing or out of order in:\n%s", phase, out)
		}
		at += next
	}
	nothingLeft(t, dir)
}

func TestDemo_CtrlC(t *testing.T) {
	t.Parallel()
	p, dir := demo(t, "--vms", "2", "--listen", "127.0.0.1:0")
	p.says("What to do now")
	if out := p.out.String(); !strings.Contains(out, "http://") || !strings.Contains(out, "password") || !strings.Contains(out, "--code=") {
		t.Errorf("it does not say what is needed:\n%s", out)
	}
	p.signal(os.Interrupt)
	if err := p.wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if !strings.Contains(p.out.String(), "Terraform destroys 2 VMs") {
		t.Errorf("it does not say what it does:\n%s", p.out)
	}
	nothingLeft(t, dir)
}

// With "lablink demo | tee FILE", Ctrl-C ends tee first: the clean-up must live on
// although it can tell nobody.
func TestDemo_PipeIsCut(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.CommandContext(t.Context(), binary(), "demo", "--vms", "1", "--listen", "127.0.0.1:0")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "TMPDIR=" + dir, "LABLINK_PROVISION_TERRAFORM=" + testkit.Terraform(t)}
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	lines := bufio.NewScanner(r)
	for lines.Scan() && !strings.Contains(lines.Text(), "What to do now") {
	}
	r.Close()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	nothingLeft(t, dir)
}

func TestDemo_TerminalCloses(t *testing.T) {
	t.Parallel()
	p, dir := demo(t, "--vms", "1", "--listen", "127.0.0.1:0")
	p.says("Terraform makes 1 VM")
	p.signal(syscall.SIGHUP)
	if err := p.wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	nothingLeft(t, dir)
}

func TestDemo_CtrlCDuringTheStart(t *testing.T) {
	t.Parallel()
	p, dir := demo(t, "--vms", "2", "--listen", "127.0.0.1:0")
	p.says("Starting the allocator")
	p.signal(syscall.SIGTERM)
	if err := p.wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	nothingLeft(t, dir)
}

// Whoever is impatient presses Ctrl-C again, while Terraform is interrupted and
// then destroys what it has made by then.
func TestDemo_CtrlCDuringTheLaunch(t *testing.T) {
	t.Parallel()
	p, dir := demo(t, "--vms", "12", "--listen", "127.0.0.1:0")
	testkit.Eventually(t, "the first agent", func() bool {
		logs, err := filepath.Glob(filepath.Join(dir, "*", "data", "machines", "*", "agent.log"))
		return err != nil || len(logs) > 0 || !p.running()
	})
	p.signal(os.Interrupt)
	p.says("Cleaning up")
	p.signal(os.Interrupt)
	p.signal(syscall.SIGTERM)
	if err := p.wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	nothingLeft(t, dir)
}

// The demo tells what an organiser does in the browser meanwhile. A destroy that
// is under way at the end is waited for.
func TestDemo_CtrlCDuringADestroy(t *testing.T) {
	t.Parallel()
	p, dir := demo(t, "--vms", "2", "--listen", "127.0.0.1:0")
	p.says("What to do now")
	shown := regexp.MustCompile(`(?s)participants   (\S+)\n.*password  (\S+)\n`).FindStringSubmatch(p.out.String())
	if shown == nil {
		t.Fatalf("no address and password in:\n%s", p.out)
	}
	c := &client{t: t, url: shown[1], password: shown[2], http: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(c.http.CloseIdleConnections)
	ask := func(path string, body any) {
		t.Helper()
		if status := c.do(context.Background(), http.MethodPost, path, nil, body, nil); status != http.StatusAccepted {
			t.Fatalf("POST %s: %d", path, status)
		}
	}
	ask("/api/launch", map[string]any{"num_vms": 2})
	p.says("Terraform begins to make 2 VMs")
	p.says("lablink-client-4  created")
	p.says("2 of 2 VMs done")
	ask("/destroy", map[string]any{"hostnames": []string{"lablink-client-1", "lablink-client-4"}})
	p.signal(os.Interrupt)
	if err := p.wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	nothingLeft(t, dir)
}

// An address that is taken is said, and leaves nothing.
func TestDemo_CannotListen(t *testing.T) {
	t.Parallel()
	p, dir := demo(t, "--once", "--listen", "192.0.2.1:1")
	if err := p.wait(); err == nil || !strings.Contains(p.out.String(), "192.0.2.1:1") {
		t.Errorf("it ended with %v", err)
	}
	nothingLeft(t, dir)
}
