package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lablink/internal/testkit"
)

// patience bounds what must not take long, also on a busy machine.
const patience = time.Minute

// proc is a running lablink.
type proc struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *testkit.LogBuffer // standard output and error
	done chan struct{}      // closed at its end

	mu  sync.Mutex
	err error
}

// start runs lablink with an environment of its own.
func start(t *testing.T, env []string, args ...string) *proc {
	t.Helper()
	p := &proc{t: t, cmd: exec.CommandContext(context.WithoutCancel(t.Context()), binary(), args...), out: &testkit.LogBuffer{}, done: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		err := p.cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(p.done)
	}()
	t.Cleanup(func() {
		if p.running() {
			p.signal(syscall.SIGTERM)
			_ = p.wait() // what it ends with was asked for by the test, or does not matter
		}
		if t.Failed() {
			t.Logf("lablink %s:\n%s", strings.Join(args, " "), p.out)
		}
	})
	return p
}

func (p *proc) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *proc) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
}

// wait returns how the process ended, nil for exit code 0.
func (p *proc) wait() error {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.signal(syscall.SIGKILL)
		<-p.done
		p.t.Errorf("lablink did not end in %v", patience)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// says waits until the process has said something.
func (p *proc) says(text string) {
	p.t.Helper()
	testkit.Eventually(p.t, "lablink to say "+text, func() bool {
		return strings.Contains(p.out.String(), text) || !p.running()
	})
	if !strings.Contains(p.out.String(), text) {
		p.t.Fatalf("lablink ended without saying %q:\n%s", text, p.out)
	}
}

// serve starts "lablink serve" and returns when it answers.
func serve(t *testing.T, args ...string) (*proc, *client) {
	t.Helper()
	return serveWith(t, nil, args...)
}

func serveWith(t *testing.T, env []string, args ...string) (*proc, *client) {
	t.Helper()
	p := start(t, env, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	p.says(`"msg":"serving"`)
	for line := range strings.Lines(p.out.String()) {
		var entry struct {
			Msg     string `json:"msg"`
			Address string `json:"address"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" {
			c := &client{t: t, url: "http://" + entry.Address, http: &http.Client{Transport: &http.Transport{},
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
			t.Cleanup(c.http.CloseIdleConnections)
			return p, c
		}
	}
	t.Fatalf("no address in the log:\n%s", p.out)
	return nil, nil
}

// client talks to an allocator.
type client struct {
	t        *testing.T
	url      string
	password string
	http     *http.Client
}

// login takes the admin's password from where serve keeps it.
func (c *client) login(dataDir string) {
	c.t.Helper()
	data, err := os.ReadFile(filepath.Join(dataDir, "admin-password"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.password = strings.TrimSpace(string(data))
}

// do sends JSON and decodes the answer into v. The status is 0 if there was no
// whole answer.
func (c *client) do(ctx context.Context, method, path string, header map[string]string, body, v any) int {
	data, err := json.Marshal(body)
	if err != nil {
		c.t.Error(err)
		return 0
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(data))
	if err != nil {
		c.t.Error(err)
		return 0
	}
	req.Header.Set("Content-Type", "application/json")
	if c.password != "" && header == nil {
		req.SetBasicAuth("admin", c.password)
	}
	for k, val := range header {
		req.Header.Set(k, val)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || v != nil && json.Unmarshal(answer, v) != nil {
		return 0
	}
	return resp.StatusCode
}

// register adds running machines and returns their tokens.
func (c *client) register(hostnames ...string) map[string]string {
	c.t.Helper()
	var made struct {
		VMs []struct{ Hostname, Token string }
	}
	if status := c.do(c.t.Context(), http.MethodPost, "/api/vms", nil, map[string]any{"hostnames": hostnames}, &made); status != http.StatusCreated {
		c.t.Fatalf("registering: %d", status)
	}
	tokens := map[string]string{}
	for _, vm := range made.VMs {
		tokens[vm.Hostname] = vm.Token
		report := map[string]string{"hostname": vm.Hostname, "status": "running"}
		if status := c.do(c.t.Context(), http.MethodPost, "/api/vm-status", bearer(vm.Token), report, nil); status != http.StatusOK {
			c.t.Fatalf("status of %s: %d", vm.Hostname, status)
		}
	}
	return tokens
}

func bearer(token string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + token}
}

// postgresPID is the process of the private server of a data folder.
func postgresPID(t *testing.T, dataDir string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dataDir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(data), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// gone fails if a process, or any that names a folder of the test, is left.
func gone(t *testing.T, what string, pid int) {
	t.Helper()
	testkit.Eventually(t, what+" to be gone", func() bool { return !alive(pid) })
}

// process is a process as /proc shows it.
type process struct {
	pid     int
	command string   // its arguments
	environ []string // what it was started with
}

// processesOf lists the processes that name a folder in their arguments or their
// environment, as Terraform and its shells do.
func processesOf(t *testing.T, dir string) []process {
	t.Helper()
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var found []process
	for _, folder := range folders {
		command, commandErr := os.ReadFile(filepath.Join(folder, "cmdline"))
		environ, environErr := os.ReadFile(filepath.Join(folder, "environ"))
		if commandErr != nil || environErr != nil && !errors.Is(environErr, fs.ErrPermission) {
			continue // it ended while we looked
		}
		pid, err := strconv.Atoi(filepath.Base(folder))
		if err != nil || !bytes.Contains(command, []byte(dir)) && !bytes.Contains(environ, []byte(dir)) {
			continue
		}
		found = append(found, process{
			pid: pid, command: strings.Join(strings.Split(string(command), "\x00"), " "), environ: strings.Split(string(environ), "\x00"),
		})
	}
	return found
}

// end kills what a failed test left.
func end(left []process) {
	for _, p := range left {
		_ = syscall.Kill(p.pid, syscall.SIGKILL) // it may have ended by itself
	}
}
