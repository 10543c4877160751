package store_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// While Terraform still makes a VM, nobody gets it, whatever it says of itself;
// then it is what it said last.
func TestGate_Created(t *testing.T) {
	t.Parallel()
	s := open(t)
	op := launch(t, s, 4)
	c := claim(t, workspace(t, s))
	says := map[string][]fleet.Status{
		"lab-1": {fleet.StatusRunning},
		"lab-2": {fleet.StatusRunning, fleet.StatusError},
		"lab-3": nil,
		"lab-4": {fleet.StatusInitializing, fleet.StatusRunning, fleet.StatusRunning},
	}
	for name, statuses := range says {
		for _, status := range statuses {
			must(t, s.SetStatus(t.Context(), fleet.Actor{Kind: "vm"}, name, status))
		}
		must(t, s.SetHealth(t.Context(), fleet.Actor{Kind: "vm"}, name, fleet.Healthy))
		v := vm(t, s, name)
		if v.Status != fleet.StatusProvisioning || v.Free() || v.LastSeen.IsZero() || v.Health != fleet.Healthy {
			t.Errorf("in creation: %+v", v)
		}
	}
	if n, err := s.FreeCount(t.Context()); err != nil || n != 0 {
		t.Errorf("%d are free, %v", n, err)
	}
	if _, err := s.Assign(t.Context(), request(1)); !errors.Is(err, store.ErrFull) {
		t.Errorf("Assign: %v", err)
	}
	must(t, c.Created(t.Context(), ids(op), times(4, time.Now())))
	for name, want := range map[string]fleet.Status{
		"lab-1": fleet.StatusRunning, "lab-2": fleet.StatusError, "lab-3": fleet.StatusProvisioning, "lab-4": fleet.StatusRunning,
	} {
		if v := vm(t, s, name); v.Status != want || v.Creation != fleet.CreationDone || v.Free() != (want == fleet.StatusRunning) {
			t.Errorf("made: %+v, want %s", v, want)
		}
	}
	// From now on its reports count at once.
	must(t, s.SetStatus(t.Context(), fleet.Actor{Kind: "vm"}, "lab-3", fleet.StatusRunning))
	must(t, s.SetStatus(t.Context(), fleet.Actor{Kind: "vm"}, "lab-1", fleet.StatusRebooting))
	if n, err := s.FreeCount(t.Context()); err != nil || n != 2 {
		t.Errorf("%d are free, %v; want lab-3 and lab-4", n, err)
	}
	history(t, s, vm(t, s, "lab-4").ID, "launch asked for/operation 1/admin", "status initializing/was provisioning/vm",
		"status running/was initializing/vm", "GPU Healthy/was unknown/vm", "created//system")
}

// A VM that could not be made is an error, whatever there is of it says, and
// what there is of it has no valid token.
func TestGate_Failed(t *testing.T) {
	t.Parallel()
	s := open(t)
	op := launch(t, s, 3)
	c := claim(t, workspace(t, s))
	hashes := [][]byte{fleet.HashToken("a"), fleet.HashToken("b"), fleet.HashToken("c")}
	must(t, c.GiveTokens(t.Context(), ids(op), hashes))
	must(t, s.AddToken(t.Context(), admin, "lab-1", fleet.HashToken("another of a")))
	for i, hash := range hashes {
		if m, err := s.MachineByToken(t.Context(), hash); err != nil || m.Hostname != op.Steps[i].Hostname {
			t.Errorf("token %d: %+v, %v", i, m, err)
		}
	}
	must(t, s.SetStatus(t.Context(), fleet.Actor{Kind: "vm"}, "lab-1", fleet.StatusRunning))
	must(t, c.Created(t.Context(), ids(op)[2:], times(1, time.Now())))
	must(t, c.Failed(t.Context(), ids(op), []string{"no capacity", "no permission", "too late"}))

	for i, name := range []string{"lab-1", "lab-2"} {
		v := vm(t, s, name)
		if v.Status != fleet.StatusError || v.Creation != fleet.CreationFailed || v.Free() {
			t.Errorf("%+v", v)
		}
		_, err := s.MachineByToken(t.Context(), hashes[i])
		wantKind(t, err, fleet.Unauthenticated)
		for _, status := range fleet.Reportable {
			wantKind(t, s.SetStatus(t.Context(), fleet.Actor{Kind: "vm"}, name, status), fleet.NotFound)
		}
		if v := vm(t, s, name); v.Status != fleet.StatusError || v.Creation != fleet.CreationFailed {
			t.Errorf("after its reports: %+v", v)
		}
	}
	_, err := s.MachineByToken(t.Context(), fleet.HashToken("another of a"))
	wantKind(t, err, fleet.Unauthenticated)
	if m, err := s.MachineByToken(t.Context(), hashes[2]); err != nil || m.Hostname != "lab-3" {
		t.Errorf("a VM that was made lost its token: %+v, %v", m, err)
	}
	if v := vm(t, s, "lab-3"); v.Creation != fleet.CreationDone || v.Status == fleet.StatusError {
		t.Errorf("a VM that was made is %+v", v)
	}
	now, err := s.Operation(t.Context(), op.ID)
	must(t, err)
	for i, want := range []fleet.Step{
		{State: fleet.StepFailed, Message: "no capacity"}, {State: fleet.StepFailed, Message: "no permission"}, {State: fleet.StepDone},
	} {
		if step := now.Steps[i]; step.State != want.State || step.Message != want.Message || step.Ended.IsZero() {
			t.Errorf("step %+v", step)
		}
	}
	history(t, s, vm(t, s, "lab-1").ID, "launch asked for/operation 1/admin", "new token//admin", "status running/was provisioning/vm", "launch failed/no capacity/system")
	if _, err := s.Assign(t.Context(), request(1)); !errors.Is(err, store.ErrFull) {
		t.Errorf("Assign: %v", err)
	}
}

// A VM reports in the very moment in which Terraform says that it is made, or
// that it is not: the report is never lost, nor does it bring a failed one back.
func TestGate_ReportWhileTerraformTells(t *testing.T) {
	t.Parallel()
	s := open(t)
	const vms = 200
	op := launch(t, s, vms)
	c := claim(t, workspace(t, s))
	vmActor := fleet.Actor{Kind: "vm"}
	for i, step := range op.Steps {
		fails := i%4 == 3
		if i%2 == 0 { // it had said something else before
			must(t, s.SetStatus(t.Context(), vmActor, step.Hostname, fleet.StatusInitializing))
		}
		var wg sync.WaitGroup
		begin := make(chan struct{})
		wg.Go(func() {
			<-begin
			err := s.SetStatus(t.Context(), vmActor, step.Hostname, fleet.StatusRunning)
			if err != nil && (!fails || fleet.KindOf(err) != fleet.NotFound) {
				t.Errorf("%s: %v", step.Hostname, err)
			}
		})
		wg.Go(func() {
			<-begin
			tell := func() error { return c.Created(t.Context(), []int64{step.VM}, times(1, time.Now())) }
			if fails {
				tell = func() error { return c.Failed(t.Context(), []int64{step.VM}, []string{"no"}) }
			}
			if err := tell(); err != nil {
				t.Errorf("%s: %v", step.Hostname, err)
			}
		})
		close(begin)
		wg.Wait()
		want := fleet.StatusRunning
		if fails {
			want = fleet.StatusError
		}
		if v := vm(t, s, step.Hostname); v.Status != want || v.Free() == fails {
			t.Fatalf("%s is %+v, want %s", step.Hostname, v, want)
		}
	}
}

// The database itself refuses what must never be.
func TestGate_Constraints(t *testing.T) {
	t.Parallel()
	s := open(t)
	op := launch(t, s, 2)
	c := claim(t, workspace(t, s))
	must(t, c.Created(t.Context(), ids(op)[1:], times(1, time.Now())))
	must(t, s.SetStatus(t.Context(), admin, "lab-2", fleet.StatusRunning))
	for what, tc := range map[string]struct{ sql, constraint string }{
		"running while it is made":     {`UPDATE vms SET status = 'running' WHERE hostname = 'lab-1'`, "vms_creation"},
		"running, and failed":          {`UPDATE vms SET status = 'running', creation = 'failed' WHERE hostname = 'lab-1'`, "vms_creation"},
		"in the making again":          {`UPDATE vms SET creation = 'pending' WHERE hostname = 'lab-2'`, "vms_creation"},
		"failed after all":             {`UPDATE vms SET creation = 'failed' WHERE hostname = 'lab-2'`, "vms_creation"},
		"a seat while it is made":      {`UPDATE vms SET seat = 'unclean' WHERE hostname = 'lab-1'`, "vms_creation"},
		"a report kept for nothing":    {`UPDATE vms SET reported = 'running' WHERE hostname = 'lab-2'`, "vms_reported"},
		"a report that none can make":  {`UPDATE vms SET reported = 'destroyed' WHERE hostname = 'lab-1'`, "vms_reported_check"},
		"another creation":             {`UPDATE vms SET creation = 'perhaps' WHERE hostname = 'lab-1'`, "vms_creation_check"},
		"an end without an end":        {`UPDATE operations SET state = 'failed', phase = ''`, "operations_ended"},
		"running, and ended":           {`UPDATE operations SET ended_at = now()`, "operations_ended"},
		"a phase of what does not run": {`UPDATE operations SET state = 'pending'`, "operations_phase"},
		"another state":                {`UPDATE operations SET state = 'paused', phase = ''`, "operations_state_check"},
		"another step":                 {`UPDATE operation_vms SET state = 'paused'`, "operation_vms_state_check"},
	} {
		if err := store.Exec(t.Context(), s, tc.sql); err == nil || !strings.Contains(err.Error(), `"`+tc.constraint+`"`) {
			t.Errorf("%s: %v, want %s to refuse it", what, err, tc.constraint)
		}
	}
}
