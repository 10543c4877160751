package provision_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"lablink/internal/provision"
	"lablink/internal/testkit"
)

// running starts a shell command with an environment of these entries, and
// returns when it has printed a line.
func running(t *testing.T, command string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil { // nobody has waited for it, so that the number is still its own
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			_ = cmd.Wait() // it was killed
		}
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestReap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mark := provision.Marker + "="
	const family = `trap '' INT TERM; sh -c 'trap "" TERM; sleep 1000; :' & setsid sleep 1000 & echo ready; wait; sleep 1000; sleep 1000`
	ours := running(t, family, "A=1", mark+dir, "Z=1")
	others := map[string]*exec.Cmd{
		"a folder whose name begins like ours": running(t, `echo ready; sleep 1000`, mark+dir+"2"),
		"a folder in ours":                     running(t, `echo ready; sleep 1000`, mark+filepath.Join(dir, "work")),
		"another variable":                     running(t, `echo ready; sleep 1000`, "OTHER_"+mark+dir),
		"one that left its environment behind": running(t, `exec env -i sh -c 'echo ready; sleep 1000'`, mark+dir),
	}
	if n := len(marked(t, dir)); n < 4 {
		t.Errorf("%d processes are to be killed", n)
	}
	if err := provision.Reap(dir); err != nil {
		t.Fatal(err)
	}
	if left := marked(t, dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if err := ours.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the first ended with %v", err)
	}
	for what, cmd := range others {
		if _, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", cmd.Process.Pid)); err != nil { // one that was killed works nowhere
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := provision.Reap(dir); err != nil {
		t.Errorf("again, with nothing there: %v", err)
	}
}

// Processes that start others while they are being killed.
func TestReap_Multiplying(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	running(t, `echo ready; while :; do sleep 0.01 & sh -c 'sleep 0.02 & sleep 0.02' & wait $!; done`, provision.Marker+"="+dir)
	if err := provision.Reap(dir); err != nil {
		t.Fatal(err)
	}
	if left := marked(t, dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	// A process that ends by itself is no error either.
	running(t, `echo ready`, provision.Marker+"="+dir)
	testkit.Eventually(t, "a process to end", func() bool { return provision.Reap(dir) == nil && len(marked(t, dir)) == 0 })
}
