package provision_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"lablink/internal/testkit"
)

// client is the client container, see vm.container.
type client struct {
	*vm
	env []string
	cmd *exec.Cmd
}

// log is what the container has written.
func (c *client) log() string { c.t.Helper(); return c.read("log") }

// says waits until the container has written a text.
func (c *client) says(text string) {
	c.t.Helper()
	testkit.Eventually(c.t, fmt.Sprintf("the container to say %q", text), func() bool { return strings.Contains(c.log(), text) })
}

// newClient is a container with a stub of the agent.
func newClient(t *testing.T, allocator string, env ...string) *client {
	t.Helper()
	c := &client{vm: &vm{t: t, dir: t.TempDir()}}
	agent, err := filepath.Abs("testdata/boot/agent")
	if err != nil {
		t.Fatal(err)
	}
	c.container(agent)
	c.link(testkit.Program(t), "image/bin/real-lablink")
	c.mkdir("image/docker_scripts")
	c.mkdir("image/etc/lablink")
	c.write("image/docker_scripts/custom-startup.sh", "")
	c.write("image/etc/lablink/agent-token", bootToken+"\n")
	image := filepath.Join(c.dir, "image")
	c.env = append([]string{
		"PATH=" + image + "/bin", "HOME=" + image + "/home/client", "CLIENT_ROOT=" + image, "LABLINK_STATE_DIR=" + image + "/var/lib/lablink-agent",
		"LABLINK_TOKEN_FILE=" + image + "/etc/lablink/agent-token", "ALLOCATOR_URL=" + allocator, "VM_NAME=lablink-vm-1",
		"GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1",
	}, env...)
	return c
}

// start starts the container, or starts it again.
func (c *client) start() {
	c.t.Helper()
	c.kill()
	// A file, not a pipe: what outlives start.sh would hold that open.
	log, err := os.Create(filepath.Join(c.dir, "log"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	c.cmd = exec.CommandContext(c.t.Context(), "bash", filepath.Join(c.dir, "image", "start.sh"))
	c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = c.env, log, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(c.kill)
}

// kill kills the container as a whole, as a power cut would.
func (c *client) kill() {
	if c.cmd == nil {
		return
	}
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	_ = c.cmd.Wait()                                      // it was killed
	c.cmd = nil
}

// await starts the container and waits for its agent.
func (c *client) await() {
	c.t.Helper()
	c.start()
	testkit.Eventually(c.t, "the agent", c.healthy)
}

func (c *client) path(name string) string { return filepath.Join(c.dir, "image", name) }

// healthy asks the image's own check.
func (c *client) healthy() bool {
	cmd := exec.CommandContext(c.t.Context(), "sh", c.path("healthy.sh"))
	cmd.Env = c.env
	return cmd.Run() == nil
}

// run runs a program that must succeed.
func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func TestClient_Agent(t *testing.T) {
	t.Parallel()
	c := newClient(t, "http://127.0.0.1:1", "SUBJECT_SOFTWARE=sleap")
	if c.healthy() {
		t.Error("it is healthy before it runs")
	}
	// As a container that was killed leaves it: the number is that of a process.
	c.mkdir("image/var/lib/lablink-agent")
	c.write("image/var/lib/lablink-agent/lablink-vm-1.lock", "1\n")
	c.write("image/tmp/.X20-lock", "")
	c.write("image/tmp/.X11-unix/X20", "")
	c.write("image/docker_scripts/custom-startup.sh", `read -r line <"$HOME/proceed"`)
	if err := syscall.Mkfifo(c.path("home/client/proceed"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start()
	proceed, err := os.OpenFile(c.path("home/client/proceed"), os.O_WRONLY, 0) // once the script waits for it
	if err != nil {
		t.Fatal(err)
	}
	if c.healthy() || exists(c.path("tmp/.X20-lock")) || exists(c.path("tmp/.X11-unix/X20")) {
		t.Error("it goes by what an earlier container has left")
	}
	if err := proceed.Close(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the agent", c.healthy)
	got := strings.Split(strings.TrimSpace(c.read("image/agent")), "\n")
	if got[0] != "arguments: agent" {
		t.Errorf("the agent got the %s", got[0])
	}
	for _, want := range c.env {
		if !slices.Contains(got, want) {
			t.Errorf("the agent did not get %s", want)
		}
	}
	c.says("prepared in")
	if err := os.Remove(c.path("opt/google/chrome-remote-desktop/start-host")); err != nil {
		t.Fatal(err)
	}
	if c.healthy() {
		t.Error("it is healthy without Chrome Remote Desktop")
	}
	pid := c.cmd.Process.Pid
	c.kill()
	if c.healthy() {
		t.Errorf("it is healthy without process %d", pid)
	}
}

// What the container prints waits for the agent, unless somebody else has it.
func TestClient_Console(t *testing.T) {
	t.Parallel()
	for ship, want := range map[string]bool{"": true, "true": true, "false": false, "0": false} {
		t.Run(ship, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, "http://127.0.0.1:1", "LABLINK_SHIP_LOGS="+ship)
			c.write("image/docker_scripts/custom-startup.sh", "echo to standard output; echo to standard error >&2")
			for range 2 { // also after a restart
				c.await()
				c.says("to standard error")
				c.says("prepared in")
			}
			kept := ""
			files, err := filepath.Glob(c.path("var/lib/lablink-agent/lablink-vm-1.logs/console/*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				kept += string(data)
			}
			if n := map[bool]int{true: 2}[want]; strings.Count(kept, "to standard output\nto standard error\n") != n || strings.Count(kept, "prepared in") != n {
				t.Errorf("what is kept:\n%s", kept)
			}
		})
	}
}

// Nobody who prints dies with what copies the console.
func TestClient_ConsoleAgain(t *testing.T) {
	t.Parallel()
	c := newClient(t, "http://127.0.0.1:1")
	c.write("image/docker_scripts/custom-startup.sh", `echo first; read -r line <"$HOME/proceed"; echo second; echo third`)
	proceed := c.path("home/client/proceed")
	if err := syscall.Mkfifo(proceed, 0o600); err != nil {
		t.Fatal(err)
	}
	c.start()
	c.says("first")
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for _, folder := range folders {
		command, _ := os.ReadFile(filepath.Join(folder, "cmdline")) // it may have ended
		environ, _ := os.ReadFile(filepath.Join(folder, "environ"))
		if !strings.Contains(string(command), "tee-console") || !strings.Contains(string(environ), "CLIENT_ROOT="+c.path("")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(folder))
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err != nil {
			t.Fatal(err)
		}
		killed++
	}
	if killed != 1 {
		t.Fatalf("%d copy the console", killed)
	}
	write(t, proceed, "\n")
	c.says("second\nthird")
	testkit.Eventually(t, "the agent", c.healthy)
}

func TestClient_Clone(t *testing.T) {
	t.Parallel()
	origin := filepath.Join(t.TempDir(), "a tutorial.git")
	run(t, "", "git", "init", "--quiet", origin)
	write(t, filepath.Join(origin, "lesson.txt"), "one")
	run(t, origin, "git", "add", ".")
	run(t, origin, "git", "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "--message=lesson")

	c := newClient(t, "http://127.0.0.1:1", "TUTORIAL_REPO_TO_CLONE="+origin+"/")
	c.mkdir("image/home/client/.cache/clone/half of it") // as an interrupted clone leaves it
	c.await()
	lesson := "image/home/client/Desktop/a tutorial/lesson.txt"
	if got := c.read(lesson); got != "one" {
		t.Errorf("the lesson is %q", got)
	}
	c.write(lesson, "one, with notes")
	c.await()
	if got := c.read(lesson); got != "one, with notes" || strings.Contains(c.log(), "cloning") {
		t.Errorf("the second start made the lesson %q:\n%s", got, c.log())
	}

	// What cannot be cloned keeps nobody from working.
	for repository, says := range map[string]string{
		filepath.Join(t.TempDir(), "nothing"): "could not be cloned", "--upload-pack=touch pwned": "could not be cloned", "https://example.org/..": "no name for a folder",
	} {
		c := newClient(t, "http://127.0.0.1:1", "TUTORIAL_REPO_TO_CLONE="+repository)
		c.await()
		c.says(says)
		if exists(c.path("home/client/pwned")) {
			t.Errorf("%s: it says\n%s", repository, c.log())
		}
	}
}

func TestClient_StartupScript(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script, onError string
		code            int // of the container; 0 = it lives
		says, reports   string
	}{
		"works":     {`echo "I am $USER in $PWD for $VM_NAME, ${LABLINK_TOKEN_FILE-no token}"`, "fail", 0, "I am client in HOME for lablink-vm-1, no token", ""},
		"fails":     {"echo no; exit 7", "continue", 0, "client: the startup script has ended with code 7", ""},
		"fails all": {"echo no; exit 7", "fail", 7, "client: the startup script has ended with code 7", "the startup script has ended with code 7"},
		"is killed": {"kill -9 $$", "fail", 137, "", "the startup script has ended with code 137"},
		"reads":     {"cat", "fail", 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := newRecorder(t, func(_ report, before int) int { // not at once
				return map[bool]int{true: http.StatusServiceUnavailable, false: http.StatusOK}[before == 0]
			})
			c := newClient(t, rec.URL+"/", "STARTUP_ON_ERROR="+test.onError)
			c.write("image/docker_scripts/custom-startup.sh", test.script)
			if test.code == 0 {
				c.await()
			} else {
				c.start()
				err := c.cmd.Wait()
				if exit, _ := errors.AsType[*exec.ExitError](err); exit == nil || exit.ExitCode() != test.code || exists(c.path("agent")) {
					t.Errorf("it ends with %v", err)
				}
			}
			if test.code == 0 {
				c.says("prepared in")
			}
			if says := strings.ReplaceAll(test.says, "HOME", c.path("home/client")); !strings.Contains(c.log(), says) || strings.Contains(c.log(), bootToken) {
				t.Errorf("it says\n%s", c.log())
			}
			reports := rec.all()
			for _, r := range reports {
				if r.Token != bootToken || r.Path != "/api/vm-status" || r.Hostname != "lablink-vm-1" || r.Status != "error" || r.Reason != test.reports {
					t.Errorf("it posts to %s with the token %q: %s", r.Path, r.Token, r.Body)
				}
			}
			if want := map[bool]int{true: 2}[test.reports != ""]; len(reports) != want {
				t.Errorf("it reports %d times, want %d", len(reports), want)
			}
		})
	}
}

// configure leaves a configuration as start-host does, and the desktop as one that
// is to run.
func (c *client) configure(id string) {
	c.t.Helper()
	c.mkdir("image/home/client/.config/chrome-remote-desktop")
	c.write("image/home/client/.config/chrome-remote-desktop/simulated-running", "")
	c.write("image/home/client/.config/chrome-remote-desktop/host#1.json.tmp", fmt.Sprintf(`{"host_id": %q}`, id))
	from := c.path("home/client/.config/chrome-remote-desktop/host#1.json.tmp")
	if err := os.Rename(from, strings.TrimSuffix(from, ".tmp")); err != nil {
		c.t.Fatal(err)
	}
}

// Without systemd, somebody must start Chrome Remote Desktop: once it is
// configured, and again after the container was started again, but not when it was
// stopped on purpose.
func TestClient_Desktop(t *testing.T) {
	t.Parallel()
	c := newClient(t, "http://127.0.0.1:1")
	starts := func(n int) {
		t.Helper()
		testkit.Eventually(t, "the desktop", func() bool { return c.starts() >= n })
		if got := c.starts(); got != n {
			t.Fatalf("it was started %d times, not %d:\n%s", got, n, c.log())
		}
	}
	stop := func() {
		t.Helper()
		before := strings.Count(c.log(), "ended with code")
		c.remove("image/home/client/.config/chrome-remote-desktop/simulated-running")
		testkit.Eventually(t, "its end", func() bool { return strings.Count(c.log(), "ended with code") > before })
	}
	c.await()
	c.configure("one")
	starts(1)

	c.await() // a reboot
	starts(2)

	stop()
	c.write("image/home/client/.config/chrome-remote-desktop/simulated-running", "")
	if got := c.starts(); got != 2 {
		t.Errorf("it came back, %d times", got-2)
	}
	c.configure("another")
	starts(3)
	c.write("image/home/client/.config/chrome-remote-desktop/host#1.json", "{}") // the host was deleted at Google
	stop()

	// It asks for another start, and it crashes.
	for _, code := range []string{"41", "1"} {
		before := c.starts()
		c.write("image/home/client/ends-with", code)
		c.configure("with code " + code)
		starts(before + 2)
		c.says("Chrome Remote Desktop has ended with code " + code)
		stop()
	}
}

// What the image is made of is there, and goes where it is looked for.
func TestClient_Dockerfile(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../deploy/client/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`\\\n\s*`).ReplaceAllString(string(data), "")
	for _, want := range []string{
		`ENTRYPOINT ["/usr/bin/tini", "--", "/usr/local/bin/start.sh"]`, `CMD ["/usr/local/bin/healthy.sh"]`,
		"COPY --chmod=755 deploy/client/start.sh deploy/client/healthy.sh /usr/local/bin/", "COPY --from=build /lablink /usr/local/bin/lablink",
		"LABLINK_USER=client", "LABLINK_STATE_DIR=/var/lib/lablink-agent", "signed-by=/usr/share/keyrings/google-linux.gpg",
		"client ALL=(ALL) NOPASSWD: ALL", "-X lablink/internal/cli.Version=$VERSION", "--groups chrome-remote-desktop client",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %s", want)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^COPY (?:--chmod=\d+ )?([^-].*) \S+$`).FindAllStringSubmatch(text, -1) {
		for source := range strings.FieldsSeq(m[1]) {
			if !exists("../../" + source) {
				t.Errorf("there is no %s to copy", source)
			}
		}
	}
}
