package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"lablink/internal/store"
)

// phaseTimeout bounds each phase: everything here takes far less than a second.
const phaseTimeout = time.Minute

// machine is an agent: a process with a home of its own.
type machine struct {
	hostname string
	cmd      *exec.Cmd
	ended    chan struct{} // closed when err says how it ended
	err      error
}

type machines []*machine

// stop ends the agents and waits for them.
func (ms machines) stop() error {
	var errs []error
	for _, m := range ms {
		if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
		}
	}
	for _, m := range ms {
		<-m.ended
		if m.err != nil {
			errs = append(errs, fmt.Errorf("agent of %s: %w", m.hostname, m.err))
		}
	}
	return errors.Join(errs...)
}

// await waits for the machine's process, and reports its end to the demo.
func (m *machine) await(gone chan<- string) {
	m.err = m.cmd.Wait()
	close(m.ended)
	gone <- m.hostname
}

func (d *demo) home(hostname string) string { return filepath.Join(d.dir, hostname) }

// startMachines registers the machines as an organiser would, and starts an
// agent for each. It returns those that were started, also with an error.
func (d *demo) startMachines(ctx context.Context) (machines, error) {
	names := make([]string, d.VMs)
	for i := range names {
		names[i] = fmt.Sprintf("demo-vm-%d", i+1)
	}
	var registered struct {
		VMs []struct{ Hostname, Token string } `json:"vms"`
	}
	if err := d.postAsAdmin(ctx, "/api/vms", map[string]any{"hostnames": names}, &registered); err != nil {
		return nil, err
	}
	var started machines
	for _, vm := range registered.VMs {
		cmd, err := d.startMachine(vm.Hostname, vm.Token)
		if err != nil {
			return started, err
		}
		m := &machine{hostname: vm.Hostname, cmd: cmd, ended: make(chan struct{})}
		started = append(started, m)
		go m.await(d.gone)
	}
	return started, nil
}

func (d *demo) startMachine(hostname, token string) (*exec.Cmd, error) {
	home := d.home(hostname)
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	tokenFile := filepath.Join(home, "token")
	if err := os.WriteFile(tokenFile, []byte(token+"\n"), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(home, "agent.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the process has its own copy
	// Not bound to a context: the agents are told to stop, and then waited for.
	cmd := exec.Command(d.Binary, "agent", "--allocator", d.url, "--hostname", hostname, "--token-file", tokenFile, //nolint:noctx // see above
		"--start-host", d.startHost, "--state-dir", filepath.Join(home, "state"))
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
	cmd.Stdout, cmd.Stderr = log, log
	// Ctrl-C reaches this program alone, which stops the agents in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return cmd, nil
}

// waitUntilAllWait returns when every machine is in a held poll and free.
func (d *demo) waitUntilAllWait(ctx context.Context) error {
	return d.watch(ctx, phaseTimeout, "the VMs to wait", func() (bool, error) {
		vms, _, err := d.store.VMs(ctx, store.VMFilter{})
		ready := 0
		for _, v := range vms {
			if v.Waiting && v.Free() {
				ready++
			}
		}
		return ready == d.VMs, err
	})
}

// watch asks done again and again until it is true; a minute is the most that
// anything in the demo may take.
func (d *demo) watch(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("waited %v for %s", limit, what))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := done(); err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-d.stopped:
			d.stopped <- err
			return fmt.Errorf("the allocator ended: %w", err)
		case hostname := <-d.gone:
			return fmt.Errorf("the agent of %s ended", hostname)
		case <-tick.C:
		}
	}
}

func (d *demo) postAsAdmin(ctx context.Context, path string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.SetBasicAuth(d.user, d.password)
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Timeout: phaseTimeout}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("POST %s: %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}
