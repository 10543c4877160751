package provision_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"lablink/internal/agent/simhost"
	"lablink/internal/fleet"
	"lablink/internal/store"
	"lablink/internal/testkit"
)

// container makes docker run start the client's own start.sh, with a simulated
// Chrome Remote Desktop.
func (v *vm) container(lablink string) {
	t := v.t
	t.Helper()
	for _, dir := range []string{"bin", "home/client", "tmp/.X11-unix"} {
		v.mkdir("image/" + dir)
	}
	testdata, err := filepath.Abs("testdata/boot")
	if err != nil {
		t.Fatal(err)
	}
	deploy, err := filepath.Abs("../../deploy/client")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := simhost.Install(filepath.Join(v.dir, "image", "opt", "google", "chrome-remote-desktop"), lablink); err != nil {
		t.Fatal(err)
	}
	v.remove("image/opt/google/chrome-remote-desktop/chrome-remote-desktop")
	v.link(testdata+"/desktop", "image/opt/google/chrome-remote-desktop/chrome-remote-desktop")
	v.link(testdata+"/client", "client")
	v.link(testdata+"/setpriv", "image/bin/setpriv")
	v.link(testdata+"/sleep", "image/bin/sleep")
	v.link(deploy+"/start.sh", "image/start.sh")
	v.link(deploy+"/healthy.sh", "image/healthy.sh")
	v.link(lablink, "image/bin/lablink")
	for name, program := range map[string]string{
		"bash": "bash", "cat": "cat", "curl": "curl", "env": "env", "git": "git", "grep": "grep", "mkdir": "mkdir", "mv": "mv", "rm": "rm", "sh": "sh", "stat": "stat",
		"timeout": "timeout", "real-sleep": "sleep",
	} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Fatalf("this test needs %s: %v", program, err)
		}
		v.link(path, "image/bin/"+name)
	}
	t.Cleanup(v.stop)
}

// stop kills the client container, if there is one.
func (v *vm) stop() {
	data, err := os.ReadFile(filepath.Join(v.dir, "pid"))
	if err != nil {
		return
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
		_ = syscall.Kill(-pid, syscall.SIGKILL) // it may have ended
	}
}

// allocator is a real one that knows the VM, with the settings for that, and how
// the VM is doing.
func allocator(t *testing.T) (a *testkit.Allocator, s settings, row func() fleet.VM) {
	t.Helper()
	a = testkit.Serve(t, testkit.ServeOptions{})
	r := a.Do(t.Context(), testkit.Request{Path: "/api/vms", Admin: true, JSON: map[string]string{"hostname": "lablink-vm-1"}})
	if r.Status != http.StatusCreated {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	var made struct{ Token string }
	r.JSON(t, &made)
	return a, usual(a.URL + "/").with(settings{"token": made.Token}), func() fleet.VM {
		vm, err := a.Store.VM(t.Context(), "lablink-vm-1")
		if err != nil {
			t.Fatal(err)
		}
		return vm
	}
}

// From nothing to a participant's desktop: user data, Docker, the client's
// start.sh, the agent, the allocator, a code, Chrome Remote Desktop.
func TestBoot_Whole(t *testing.T) {
	t.Parallel()
	a, s, row := allocator(t)
	v := newVM(t, false)
	v.container(testkit.Program(t))
	v.mkdir("root/var/log")
	v.write("root/var/log/cloud-init-output.log", "cloud-init says this\n")
	out, code := v.boot(s.with(settings{"ship_logs": true}))
	if code != 0 {
		t.Fatalf("exit code %d:\n%s\nthe container:\n%s", code, out, v.read("logs"))
	}
	testkit.Eventually(t, "the VM to wait", func() bool { vm := row(); return vm.Waiting && vm.Free() && vm.Startup.Container > 0 })
	events, err := a.Store.Events(t.Context(), row().ID, 100)
	if err != nil {
		t.Fatal(err)
	}
	var statuses []string
	for _, e := range slices.Backward(events) {
		if status, ok := strings.CutPrefix(e.What, "status "); ok {
			statuses = append(statuses, status)
		}
	}
	if got := strings.Join(statuses, " "); got != "initializing running" {
		t.Errorf("the statuses were %q", got)
	}
	if took := row().Startup.CloudInit; took < 0 || !strings.Contains(out, fmt.Sprintf("done in %d seconds", int(took.Seconds()))) {
		t.Errorf("the start took %v, and the output is\n%s", took, out)
	}

	r := a.Do(t.Context(), testkit.Request{Path: "/api/request_vm", Form: "email=ada@example.org&crd_command=4/0abc"})
	if r.Status != http.StatusSeeOther {
		t.Fatalf("request: %d %s", r.Status, r.Body)
	}
	testkit.Eventually(t, "the desktop", func() bool { return row().Seat == fleet.SeatConnected && v.starts() == 1 })
	if err := a.Store.Release(t.Context(), fleet.Actor{Kind: "admin"}, "lablink-vm-1"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the VM to be free again", func() bool { return row().Free() })
	if logs := v.read("logs"); strings.Contains(logs, fmt.Sprint(s["token"])) || !strings.Contains(logs, "Chrome Remote Desktop has ended with code 0") {
		t.Errorf("the container wrote\n%s", logs)
	}
	for source, text := range map[string]string{
		"boot": "cloud-init says this", "console": "Chrome Remote Desktop has ended with code 0", "agent": "the agent has started",
	} {
		testkit.Eventually(t, "the log "+source, func() bool {
			return slices.ContainsFunc(vmLog(t, a), func(l store.LogLine) bool { return l.Source == source && strings.Contains(l.Text, text) })
		})
	}
	for _, l := range vmLog(t, a) {
		if l.Source == "console" && strings.Contains(l.Text, "the agent has started") {
			t.Errorf("the agent's log is there twice")
		}
	}
}

// vmLog is all of the VM's log.
func vmLog(t *testing.T, a *testkit.Allocator) (lines []store.LogLine) {
	t.Helper()
	vm, err := a.Store.LogVM(t.Context(), "lablink-vm-1")
	if err == nil {
		err = a.Store.EachLogLine(t.Context(), vm.ID, store.LogQuery{}, func(l store.LogLine) error {
			lines = append(lines, l)
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// Where CloudWatch has what the container writes, the agent sends the boot log alone.
func TestBoot_CloudWatch(t *testing.T) {
	t.Parallel()
	a, s, _ := allocator(t)
	v := newVM(t, false)
	v.container(testkit.Program(t))
	v.mkdir("root/var/log")
	v.write("root/var/log/cloud-init-output.log", "cloud-init says this\n")
	if out, code := v.boot(s); code != 0 {
		t.Fatalf("exit code %d:\n%s\nthe container:\n%s", code, out, v.read("logs"))
	}
	testkit.Eventually(t, "the boot log", func() bool { return len(vmLog(t, a)) > 0 })
	for _, l := range vmLog(t, a) {
		if l.Source != "boot" {
			t.Errorf("it sends %+v", l)
		}
	}
	if !strings.Contains(v.read("logs"), "prepared in") {
		t.Errorf("the container wrote\n%s", v.read("logs"))
	}
}

// What went wrong is on the VM's page.
func TestBoot_Problem(t *testing.T) {
	t.Parallel()
	_, s, row := allocator(t)
	v := newVM(t, false)
	v.write("fail/docker pull", "ever")
	v.write("say/docker pull", "manifest for example.org/client:1 not found\n")
	if out, code := v.boot(s); code == 0 {
		t.Errorf("it succeeds:\n%s", out)
	}
	const want = "the image example.org/client:1 could not be pulled: manifest for example.org/client:1 not found"
	if vm := row(); vm.Status != fleet.StatusError || vm.Problem != want {
		t.Errorf("the VM is %s: %s", vm.Status, vm.Problem)
	}
}

// starts is how often Chrome Remote Desktop was started.
func (v *vm) starts() int {
	data, err := os.ReadFile(filepath.Join(v.dir, "image", "home", "client", "starts"))
	if err != nil {
		return 0
	}
	return strings.Count(string(data), "--start --new-session user x11\n")
}
