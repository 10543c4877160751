package cli_test

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// nothingLeft fails if a demo left a process or a file.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if left := processesOf(t, dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) > 0 {
		t.Errorf("files are left: %v, %v", files, err)
	}
}

func TestDemo_Once(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	p := start(t, []string{"TMPDIR=" + dir}, "demo", "--once", "--vms", "2")
	if err := p.wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	out := p.out.String()
	at := 0
	for _, phase := range []string{"Phase 1:", "Phase 2: 2 VMs", "Phase 3:", "Phase 4:", "Phase 5:", "The other 1 VMs still wait"} {
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
	dir := dataDir(t)
	p := start(t, []string{"TMPDIR=" + dir}, "demo", "--vms", "2", "--listen", "127.0.0.1:0")
	p.says("What to do now")
	if out := p.out.String(); !strings.Contains(out, "http://") || !strings.Contains(out, "password") || !strings.Contains(out, "--code=") {
		t.Errorf("it does not say what is needed:\n%s", out)
	}
	p.signal(os.Interrupt)
	if err := p.wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	nothingLeft(t, dir)
}

func TestDemo_CtrlCDuringTheStart(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	p := start(t, []string{"TMPDIR=" + dir}, "demo", "--vms", "2", "--listen", "127.0.0.1:0")
	p.says("Starting the allocator")
	p.signal(syscall.SIGTERM)
	if err := p.wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	nothingLeft(t, dir)
}

// An address that is taken is said, and leaves nothing.
func TestDemo_CannotListen(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	p := start(t, []string{"TMPDIR=" + dir}, "demo", "--once", "--listen", "192.0.2.1:1")
	if err := p.wait(); err == nil || !strings.Contains(p.out.String(), "192.0.2.1:1") {
		t.Errorf("it ended with %v", err)
	}
	nothingLeft(t, dir)
}
