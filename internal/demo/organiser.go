package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lablink/internal/agent/simhost"
	"lablink/internal/fleet"
	"lablink/internal/store"
	"lablink/internal/wire"
)

const (
	// phaseTimeout bounds each phase: everything there takes far less than a second.
	phaseTimeout = time.Minute
	// operationTimeout bounds a launch and a destroy. A hundred VMs take half a minute.
	operationTimeout = 5 * time.Minute
)

// operationError is an operation that did not do all that was asked for.
type operationError struct {
	fleet.Operation
	output string // of Terraform
}

// Error says why, in Terraform's words.
func (e *operationError) Error() string {
	texts := []string{fmt.Sprintf("the %s has %s", e.Kind, e.State)}
	for _, text := range append([]string{e.Operation.Error}, e.messages()...) {
		if text != "" && !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, ": ")
}

// messages are the reasons of the VMs, each once.
func (e *operationError) messages() []string {
	var texts []string
	for _, s := range e.Steps {
		if s.State == fleet.StepFailed && !slices.Contains(texts, s.Message) {
			texts = append(texts, s.Message)
		}
	}
	return texts
}

// launch asks for the VMs as an organiser does, and returns when Terraform has
// made them.
func (d *demo) launch(ctx context.Context) error {
	op, err := d.ask(ctx, "/api/launch", map[string]any{"num_vms": d.VMs})
	if err != nil {
		return err
	}
	if !d.Once {
		d.say("Terraform makes %s; %s/admin/operations/%d shows it at work ...", counted(d.VMs), d.url, op)
	}
	return d.ended(ctx, op)
}

// refused is an answer to a request of the organiser's.
type refused struct {
	status       int
	path, reason string
}

// Error implements error.
func (e *refused) Error() string {
	return fmt.Sprintf("POST %s: %d %s: %s", e.path, e.status, http.StatusText(e.status), e.reason)
}

// ask asks for an operation, and returns its number.
func (d *demo) ask(ctx context.Context, path string, body any) (op int64, err error) {
	data, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+path, bytes.NewReader(data))
	if err != nil {
		return 0, err
	}
	req.SetBasicAuth(d.user, d.password)
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Timeout: phaseTimeout}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	var answer struct {
		ID    int64  `json:"id"`
		Error string `json:"error"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, fmt.Errorf("POST %s answers %s and no JSON: %w", path, resp.Status, err)
	}
	if resp.StatusCode != http.StatusAccepted {
		return 0, &refused{resp.StatusCode, path, answer.Error}
	}
	return answer.ID, nil
}

// ended waits for the end of an operation. Its error says what was not done.
func (d *demo) ended(ctx context.Context, id int64) error {
	var op fleet.Operation
	if err := d.watch(ctx, operationTimeout, fmt.Sprintf("the end of operation %d", id), func() (done bool, err error) {
		op, err = d.store.Operation(ctx, id)
		return op.State.Final(), err
	}); err != nil {
		return err
	}
	if op.State == fleet.OperationSucceeded && op.Count(fleet.StepDone) == len(op.Steps) {
		return nil
	}
	const most = 64 << 10 // bytes
	var output bytes.Buffer
	if err := d.store.Output(ctx, id, most, &output); err != nil {
		return errors.Join(&operationError{Operation: op}, err)
	}
	return &operationError{op, output.String()}
}

// waitUntilAllWait returns when every VM is in a held poll and free.
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

// watch asks done again and again until it is true.
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
		case <-tick.C:
		}
	}
}

// logTimeout is how long a line may take from the VM to whoever reads its log.
const logTimeout = 10 * time.Second

// readLog looks up what the VM's agent has written about the participant.
func (d *demo) readLog(ctx context.Context, hostname string) error {
	const line = "the result is reported"
	began := time.Now()
	client := &http.Client{Timeout: phaseTimeout}
	defer client.CloseIdleConnections()
	err := d.watch(ctx, logTimeout, fmt.Sprintf("%q in the log of %s", line, hostname), func() (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+wire.PathLogs+"/"+hostname, http.NoBody)
		if err != nil {
			return false, err
		}
		req.SetBasicAuth(d.user, d.password)
		resp, err := client.Do(req)
		if err != nil {
			return false, err
		}
		defer func() { _ = resp.Body.Close() }() // only read from
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("GET %s answers %s: %s", req.URL.Path, resp.Status, body)
		}
		return strings.Contains(string(body), line), err
	})
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	d.took("Logs: what "+hostname+" wrote about it is there to read", began)
	return nil
}

// playEnd goes the way of an organiser when the workshop is over: destroys one VM
// that nobody got, which must leave the participant's alone, and then all.
func (d *demo) playEnd(ctx context.Context, s seat) error {
	vms, _, err := d.store.VMs(ctx, store.VMFilter{})
	if err != nil {
		return err
	}
	if free := slices.IndexFunc(vms, fleet.VM.Free); free >= 0 { // none if there is only one VM
		if err := d.destroyOne(ctx, vms[free].Hostname, s); err != nil {
			return err
		}
		vms = slices.Delete(vms, free, free+1)
	}

	began := time.Now()
	op, err := d.ask(ctx, "/destroy", map[string]any{"all": true, "confirm": len(vms)})
	if err != nil {
		return err
	}
	if err := d.ended(ctx, op); err != nil {
		return err
	}
	if _, left, err := d.store.VMs(ctx, store.VMFilter{}); err != nil || left > 0 {
		return errors.Join(err, fmt.Errorf("%s are left after all were destroyed", counted(left)))
	}
	if files, err := filepath.Glob(d.home("*")); err != nil || len(files) > 0 {
		return errors.Join(err, fmt.Errorf("of the destroyed VMs %v are left", files))
	}
	d.took("Destroyed all the others, "+counted(len(vms))+"; nothing is left of them", began)
	return nil
}

func (d *demo) destroyOne(ctx context.Context, hostname string, s seat) error {
	began := time.Now()
	agent := agentOf(d.home(s.Hostname), s.Hostname)
	op, err := d.ask(ctx, "/destroy", map[string]any{"hostnames": []string{hostname}})
	if err != nil {
		return err
	}
	if err := d.ended(ctx, op); err != nil {
		return err
	}
	if _, err := os.Stat(d.home(hostname)); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the machine %s is not gone: %w", hostname, err)
	}
	vm, err := d.store.VM(ctx, s.Hostname)
	switch {
	case err != nil:
		return err
	case vm.Seat != fleet.SeatConnected || agent == 0 || agentOf(d.home(s.Hostname), s.Hostname) != agent:
		return fmt.Errorf("the participant's VM suffered: seat %s, agent %d", vm.Seat, agentOf(d.home(s.Hostname), s.Hostname))
	}
	if err := simhost.Access(d.home(s.Hostname), s.Hostname, s.PIN); err != nil {
		return fmt.Errorf("the participant's VM suffered: %w", err)
	}
	d.took("Destroyed "+hostname+"; "+s.Hostname+" is untouched", began)
	return nil
}
