package cli_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lablink/internal/testkit"
)

func TestServe_FirstStartStopAndRestart(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	p, c := serve(t, "--data-dir", dir)
	info, err := os.Stat(filepath.Join(dir, "admin-password"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the password's file: %v, %v", info, err)
	}
	c.login(dir)
	if strings.Contains(p.out.String(), c.password) {
		t.Error("the password was printed, although nobody looks at a terminal")
	}
	token := c.register("vm-1")["vm-1"]
	held := make(chan int, 1)
	go func() {
		held <- c.do(t.Context(), http.MethodPost, "/vm_startup", bearer(token), map[string]string{"hostname": "vm-1", "agent": "test"}, nil)
	}()
	c.waits("vm-1")
	postgres := postgresPID(t, dir)

	p.signal(syscall.SIGTERM)
	if status := <-held; status != http.StatusServiceUnavailable {
		t.Errorf("the held poll ended with %d; 503 means: call again", status)
	}
	if err := p.wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	gone(t, "PostgreSQL", postgres)

	_, again := serve(t, "--data-dir", dir)
	again.login(dir)
	if again.password != c.password {
		t.Error("a restart made another password")
	}
	var status struct{ Status string }
	if code := again.do(t.Context(), http.MethodGet, "/api/vm-status/vm-1", nil, nil, &status); code != http.StatusOK || status.Status != "running" {
		t.Errorf("after the restart: %d %+v", code, status)
	}
	if code := again.do(t.Context(), http.MethodPost, "/api/vm-status", bearer(token), map[string]string{"hostname": "vm-1", "status": "running"}, nil); code != http.StatusOK {
		t.Errorf("the VM's token after the restart: %d", code)
	}
}

// waits returns when so many VMs wait in a poll at this replica.
func (c *client) waits(hostname string) {
	c.t.Helper()
	testkit.Eventually(c.t, hostname+" to wait", func() bool {
		req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.url+"/metrics", http.NoBody)
		if err != nil {
			return false
		}
		resp, err := c.http.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(data), "lablink_vms{kind=\"waiting\"} 1\n")
	})
}

func TestServe_SecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	p, c := serve(t, "--data-dir", dir)
	// A request that does not end holds the orderly stop up.
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(c.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const slow = "POST /api/vm-status HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
	if _, err := io.WriteString(conn, slow); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil { // "continue": the handler reads
		t.Fatal(err)
	}
	p.signal(os.Interrupt)
	p.says(`"msg":"stopping"`)
	p.signal(os.Interrupt)
	if err := p.wait(); err == nil || err.Error() != "signal: interrupt" {
		t.Errorf("after the second signal: %v", err)
	}
	// Its PostgreSQL was left running, and is taken over.
	postgres := postgresPID(t, dir)
	next, _ := serve(t, "--data-dir", dir)
	if pid := postgresPID(t, dir); pid != postgres {
		t.Errorf("PostgreSQL %d was replaced by %d", postgres, pid)
	}
	next.signal(syscall.SIGTERM)
	if err := next.wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	gone(t, "the PostgreSQL that was taken over", postgres)
}

func TestServe_SignalDuringTheStart(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	p := start(t, nil, "serve", "--listen", "127.0.0.1:0", "--data-dir", dir)
	p.says("making a PostgreSQL cluster")
	p.signal(syscall.SIGTERM)
	if err := p.wait(); err != nil {
		t.Errorf("stopped while it started: %v", err)
	}
	if left := processesOf(t, dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	serve(t, "--data-dir", dir) // nothing half-made is in the way
}

func TestServe_DataDirIsInUse(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	first, c := serve(t, "--data-dir", dir)
	second := start(t, nil, "serve", "--listen", "127.0.0.1:0", "--data-dir", dir)
	var exit *exec.ExitError
	if err := second.wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("a second server on the same folder: %v", err)
	}
	if out := second.out.String(); !strings.Contains(out, dir) || !strings.Contains(out, "another lablink serve uses this folder") {
		t.Errorf("it says: %s", out)
	}
	if !first.running() || c.do(t.Context(), http.MethodGet, "/readyz", nil, nil, nil) != http.StatusOK {
		t.Error("the first server suffered")
	}
}

func TestServe_AddressIsInUse(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := dataDir(t)
	p := start(t, nil, "serve", "--listen", l.Addr().String(), "--data-dir", dir)
	var exit *exec.ExitError
	if err := p.wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("ended with %v", err)
	}
	if out := p.out.String(); !strings.Contains(out, l.Addr().String()) || !strings.Contains(out, "address already in use") {
		t.Errorf("it says: %s", out)
	}
	if left := processesOf(t, dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

// The password can be changed beside a running server, which takes it at once.
func TestResetPassword_RunningServer(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	_, c := serve(t, "--data-dir", dir)
	c.login(dir)
	old := c.password
	reset := start(t, nil, "admin", "reset-password", "--data-dir", dir)
	if err := reset.wait(); err != nil {
		t.Fatal(err)
	}
	c.login(dir)
	if c.password == old || !strings.Contains(reset.out.String(), c.password) {
		t.Errorf("the new password is not the one that was printed")
	}
	if code := c.do(t.Context(), http.MethodGet, "/admin", nil, nil, nil); code != http.StatusOK {
		t.Errorf("the new password: %d", code)
	}
	c.password = old
	if code := c.do(t.Context(), http.MethodGet, "/admin", nil, nil, nil); code != http.StatusUnauthorized {
		t.Errorf("the old password: %d", code)
	}
	if code := c.do(t.Context(), http.MethodGet, "/readyz", nil, nil, nil); code != http.StatusOK {
		t.Errorf("the server afterwards: %d", code)
	}
}
