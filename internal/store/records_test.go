package store_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// What Terraform does with a VM is noted with its times, whatever the order in
// which the notes arrive.
func TestClaim_Steps(t *testing.T) {
	t.Parallel()
	s := open(t)
	op := launch(t, s, 4)
	c := claim(t, workspace(t, s))
	vms := ids(op)
	at := func(seconds int) time.Time {
		return time.Date(2026, 3, 29, 1, 59, 0, 0, time.UTC).Add(time.Duration(seconds) * time.Second) // over the change to summer time
	}
	states := func(want ...fleet.StepState) fleet.Operation {
		t.Helper()
		now, err := s.Operation(t.Context(), op.ID)
		must(t, err)
		for i, step := range now.Steps {
			if step.State != want[i] {
				t.Errorf("step %d is %+v, want %s", i, step, want[i])
			}
		}
		return now
	}
	must(t, c.Plan(t.Context(), vms))
	states(fleet.StepPlanned, fleet.StepPlanned, fleet.StepPlanned, fleet.StepPlanned)
	must(t, c.Begin(t.Context(), vms[:3], []time.Time{at(0), at(10), at(20)}))
	states(fleet.StepRunning, fleet.StepRunning, fleet.StepRunning, fleet.StepPlanned)
	must(t, c.Created(t.Context(), vms[:1], []time.Time{at(3600)}))
	must(t, c.Failing(t.Context(), vms[:2]))
	now := states(fleet.StepDone, fleet.StepFailed, fleet.StepRunning, fleet.StepPlanned)
	if step := now.Steps[0]; !step.Started.Equal(at(0)) || !step.Ended.Equal(at(3600)) || step.Message != "" {
		t.Errorf("step %+v", step)
	}
	if step := now.Steps[1]; step.Message == "" {
		t.Errorf("step %+v says nothing", step)
	}
	if v := vm(t, s, "lab-1"); v.Startup.Terraform != time.Hour || v.Startup.Total() != time.Hour {
		t.Errorf("Terraform took %v", v.Startup)
	}
	if v := vm(t, s, "lab-2"); v.Creation != fleet.CreationPending || v.Status != fleet.StatusProvisioning {
		t.Errorf("before Terraform has ended: %+v", v)
	}
	// Terraform got it done after all, and what was late is too late.
	must(t, c.Created(t.Context(), vms[1:2], []time.Time{at(70)}))
	must(t, c.Begin(t.Context(), vms[:2], []time.Time{at(500), at(500)}))
	must(t, c.Failed(t.Context(), vms[:2], []string{"late", "late"}))
	must(t, c.Cancelled(t.Context(), vms[:2]))
	must(t, c.Plan(t.Context(), vms[:2]))
	now = states(fleet.StepDone, fleet.StepDone, fleet.StepRunning, fleet.StepPlanned)
	if step := now.Steps[1]; step.Message != "" || !step.Started.Equal(at(10)) || !step.Ended.Equal(at(70)) {
		t.Errorf("step %+v", step)
	}
	// Made by an earlier runner, at a time that nobody knows.
	must(t, c.Created(t.Context(), vms[3:], []time.Time{{}}))
	now = states(fleet.StepDone, fleet.StepDone, fleet.StepRunning, fleet.StepDone)
	if step := now.Steps[3]; !step.Started.IsZero() || !step.Ended.IsZero() {
		t.Errorf("step %+v", step)
	}
	if v := vm(t, s, "lab-4"); v.Startup.Terraform != 0 || v.Creation != fleet.CreationDone {
		t.Errorf("%+v", v)
	}
	// A failed one that is planned again starts anew.
	must(t, c.Failed(t.Context(), vms[2:3], []string{"first"}))
	must(t, c.Failed(t.Context(), vms[2:3], []string{"second"}))
	if step := states(fleet.StepDone, fleet.StepDone, fleet.StepFailed, fleet.StepDone).Steps[2]; step.Message != "first" {
		t.Errorf("step %+v: the first reason stands", step)
	}
	must(t, c.Plan(t.Context(), vms[2:3]))
	if step := states(fleet.StepDone, fleet.StepDone, fleet.StepPlanned, fleet.StepDone).Steps[2]; step.Message != "" || !step.Started.IsZero() || !step.Ended.IsZero() {
		t.Errorf("step %+v", step)
	}
	must(t, c.Failed(t.Context(), vms[2:3], []string{"third"}))
	if step := states(fleet.StepDone, fleet.StepDone, fleet.StepFailed, fleet.StepDone).Steps[2]; step.Message != "third" {
		t.Errorf("step %+v", step)
	}
}

// VMs of a launch that was stopped are gone if they were not made; machines of a
// destruction that was stopped are not.
func TestClaim_Cancelled(t *testing.T) {
	t.Parallel()
	s := open(t)
	op := launch(t, s, 3)
	w := workspace(t, s)
	c := claim(t, w)
	must(t, c.GiveTokens(t.Context(), ids(op), [][]byte{fleet.HashToken("a"), fleet.HashToken("b"), fleet.HashToken("c")}))
	must(t, c.Created(t.Context(), ids(op)[:1], times(1, time.Now())))
	must(t, c.Failed(t.Context(), ids(op)[1:2], []string{"no capacity"}))
	must(t, c.Cancelled(t.Context(), ids(op)))
	must(t, c.Finish(t.Context(), fleet.OperationCancelled, ""))
	if got := live(t, s); !slices.Equal(got, []string{"lab-1"}) {
		t.Errorf("the fleet is %v", got)
	}
	if _, err := s.MachineByToken(t.Context(), fleet.HashToken("a")); err != nil {
		t.Error(err)
	}
	for _, token := range []string{"b", "c"} {
		_, err := s.MachineByToken(t.Context(), fleet.HashToken(token))
		wantKind(t, err, fleet.Unauthenticated)
	}
	vms, err := s.OperationVMs(t.Context(), op.ID)
	must(t, err)
	if len(vms) != 3 || vms["lab-3"].Status != fleet.StatusDestroyed {
		t.Errorf("VMs of the operation: %+v", vms)
	}
	history(t, s, ids(op)[2], "launch asked for/operation 1/admin", "operation stopped//system")

	gone := destroyed(t, s, "lab-1")
	c = claim(t, w)
	must(t, c.Cancelled(t.Context(), ids(gone)))
	must(t, c.Finish(t.Context(), fleet.OperationCancelled, ""))
	if got := live(t, s); len(got) > 0 {
		t.Errorf("a stopped destruction gave back %v", got)
	}
	if op, err := s.Operation(t.Context(), gone.ID); err != nil || op.Steps[0].State != fleet.StepCancelled || !op.Retryable() {
		t.Errorf("%+v, %v", op, err)
	}
}

func TestClaim_PhasesAndTargets(t *testing.T) {
	t.Parallel()
	s := open(t)
	first := launch(t, s, 2)
	run(t, s, first)
	l := launchOf(2)
	l.InstanceType = "large"
	op, err := s.Launch(t.Context(), admin, l)
	must(t, err)
	destroyed(t, s, "lab-3")
	c := claim(t, workspace(t, s))
	read := func() fleet.Operation {
		now, err := s.Operation(t.Context(), op.ID)
		must(t, err)
		return now
	}
	for _, p := range []fleet.Phase{fleet.PhasePreparing, fleet.PhasePlanning} {
		must(t, c.Enter(t.Context(), p))
		if now := read(); now.Phase != p || !now.Applied.IsZero() {
			t.Errorf("%+v", now)
		}
	}
	must(t, c.Enter(t.Context(), fleet.PhaseApplying))
	applied := read().Applied
	if applied.IsZero() {
		t.Error("the beginning of the apply is not noted")
	}
	for _, p := range []fleet.Phase{fleet.PhaseCleaning, fleet.PhasePlanning, fleet.PhaseApplying} {
		must(t, c.Enter(t.Context(), p))
		if now := read(); now.Phase != p || !now.Applied.Equal(applied) {
			t.Errorf("%+v, want it applied since %v", now, applied)
		}
	}
	targets, err := c.Targets(t.Context())
	must(t, err)
	want := map[string]store.Target{
		"lab-3": {ID: ids(op)[0], InstanceType: "large", Creation: fleet.CreationPending, Live: false},
		"lab-4": {ID: ids(op)[1], InstanceType: "large", Creation: fleet.CreationPending, Live: true, New: true},
	}
	if fmt.Sprint(targets) != fmt.Sprint(want) {
		t.Errorf("targets %v, want %v", targets, want)
	}
	alive, err := s.LiveVMs(t.Context(), local)
	must(t, err)
	if len(alive) != 3 || alive["lab-1"] != (store.Target{ID: ids(first)[0], InstanceType: "small", Creation: fleet.CreationDone, Live: true, New: true}) || alive["lab-4"] != want["lab-4"] {
		t.Errorf("live %v", alive)
	}
	// A VM that was destroyed meanwhile gets no token.
	must(t, c.GiveTokens(t.Context(), ids(op), [][]byte{fleet.HashToken("3"), fleet.HashToken("4")}))
	_, err = s.MachineByToken(t.Context(), fleet.HashToken("3"))
	wantKind(t, err, fleet.Unauthenticated)
	if m, err := s.MachineByToken(t.Context(), fleet.HashToken("4")); err != nil || m.Hostname != "lab-4" {
		t.Errorf("%+v, %v", m, err)
	}
	// Terraform was faster than its destruction: that changes nothing.
	must(t, c.Created(t.Context(), ids(op)[:1], times(1, time.Now())))
	history(t, s, ids(op)[0], "launch asked for/operation 2/admin", "destroy asked for/operation 3/admin")
	if got := live(t, s); !slices.Equal(got, []string{"lab-1", "lab-2", "lab-4"}) {
		t.Errorf("the fleet is %v", got)
	}
	// A VM of another operation gets none either.
	must(t, c.GiveTokens(t.Context(), ids(first)[:1], [][]byte{fleet.HashToken("1")}))
	_, err = s.MachineByToken(t.Context(), fleet.HashToken("1"))
	wantKind(t, err, fleet.Unauthenticated)
	if n, err := store.CountRows(t.Context(), s, "vm_tokens"); err != nil || n != 1 {
		t.Errorf("%d tokens, %v", n, err)
	}
}

func TestClaim_DescribeAndStrays(t *testing.T) {
	t.Parallel()
	s := open(t)
	registerAs(t, s, "vm-1")
	op := launch(t, s, 2)
	run(t, s, op)
	foreign := launchOf(1)
	foreign.Provider, foreign.Prefix = "aws", "aws-"
	_, err := s.Launch(t.Context(), admin, foreign)
	must(t, err)
	destroyed(t, s, "lab-2")
	c := claim(t, workspace(t, s))
	must(t, c.Describe(t.Context(), []string{"lab-1", "lab-2", "vm-1", "aws-1", "nobody"}, []string{"i-1", "i-2", "i-3", "i-4", "i-5"},
		[]string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", ""}))
	for name, want := range map[string]string{"lab-1": "i-1 192.0.2.1", "vm-1": " ", "aws-1": " "} {
		if v := vm(t, s, name); v.Machine+" "+v.Address != want {
			t.Errorf("%s is %q at %q", name, v.Machine, v.Address)
		}
	}
	must(t, c.Describe(t.Context(), []string{"lab-1"}, []string{"i-1"}, []string{""}))
	if v := vm(t, s, "lab-1"); v.Machine != "i-1" || v.Address != "" {
		t.Errorf("%+v", v)
	}
	strays := func(want ...string) {
		t.Helper()
		got, err := s.Strays(t.Context(), local)
		must(t, err)
		if !slices.Equal(got, want) {
			t.Errorf("strays %v, want %v", got, want)
		}
	}
	strays()
	must(t, c.AddStrays(t.Context(), []string{"lab-9", "lab-2"}))
	must(t, c.AddStrays(t.Context(), []string{"lab-2", "odd"}))
	must(t, c.AddStrays(t.Context(), nil))
	strays("lab-2", "lab-9", "odd")
	must(t, c.SetStrays(t.Context(), []string{"odd"}))
	strays("odd")
	if got, err := s.Strays(t.Context(), "aws"); err != nil || len(got) > 0 {
		t.Errorf("another provider's: %v, %v", got, err)
	}
	must(t, c.SetStrays(t.Context(), nil))
	strays()
	// What Terraform's state holds already is no name for a new VM.
	must(t, c.SkipNumbers(t.Context(), "lab-", 41))
	must(t, c.SkipNumbers(t.Context(), "lab-", 7))
	if got := names(launch(t, s, 1)); !slices.Equal(got, []string{"lab-42"}) {
		t.Errorf("made %v", got)
	}
}

func output(t *testing.T, s *store.Store, id int64, tail int) string {
	t.Helper()
	var b strings.Builder
	must(t, s.Output(t.Context(), id, tail, &b))
	return b.String()
}

func TestClaim_Output(t *testing.T) {
	t.Parallel()
	s := open(t)
	op := launch(t, s, 1)
	c := claim(t, workspace(t, s))
	if got := output(t, s, op.ID, 0); got != "" {
		t.Errorf("before there is any: %q", got)
	}
	var all strings.Builder
	for n := range 20 {
		lines := fmt.Sprintf("%d: ä line of output\n%d: another\n", n, n)
		all.WriteString(lines)
		must(t, c.Write(t.Context(), lines))
	}
	if got := output(t, s, op.ID, 0); got != all.String() {
		t.Errorf("all of it: %q", got)
	}
	for _, tail := range []int{1, 30, 200, 100_000} {
		got := output(t, s, op.ID, tail)
		if !strings.HasSuffix(all.String(), got) || len(got) < min(tail, all.Len()) || len(got) > tail+100 || !strings.Contains(got, ": ä") {
			t.Errorf("the last %d bytes: %q", tail, got)
		}
	}
	if got := output(t, s, op.ID+1, 0); got != "" {
		t.Errorf("another operation's: %q", got)
	}
}

// Output has a limit, and says where it ends.
func TestClaim_OutputLimit(t *testing.T) {
	t.Parallel()
	s := open(t)
	op := launch(t, s, 1)
	c := claim(t, workspace(t, s))
	const piece = 3 << 20
	lines := strings.Repeat(strings.Repeat("x", 1023)+"\n", piece>>10)
	for range 8 {
		must(t, c.Write(t.Context(), lines))
	}
	got := output(t, s, op.ID, 0)
	note := "(There is more output than the 16 MiB that are kept. The rest is not.)\n"
	if !strings.HasSuffix(got, "x\n"+note) || strings.Count(got, note) != 1 {
		t.Errorf("it ends with %q", got[max(0, len(got)-200):])
	}
	if kept := len(got) - len(note); kept > store.OutputLimit || kept < store.OutputLimit-1024 {
		t.Errorf("%d bytes are kept", kept)
	}
	if n, err := store.CountRows(t.Context(), s, "operation_output"); err != nil || n != 6 {
		t.Errorf("%d pieces, %v", n, err)
	}
}

// Runners and pages on all replicas hear of a change, and of nothing else.
func TestListener_Operations(t *testing.T) {
	t.Parallel()
	s, other, _ := two(t)
	registerAs(t, s, "vm-1")
	heard := make(chan string, 1000)
	connected := make(chan struct{})
	l := &store.Listener{
		Store: other, Logger: slog.New(slog.DiscardHandler),
		Connected: func(context.Context) error {
			close(connected)
			return nil
		},
		Command:   func(hostname string) { heard <- "command " + hostname },
		Changed:   func(hostname string) { heard <- "vm " + hostname },
		Operation: func(id string) { heard <- "operation " + id },
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(ctx)
	}()
	defer func() {
		stop()
		<-ended
	}()
	<-connected
	status := fleet.StatusError
	// hears does something and returns what was heard of it, without repetitions.
	hears := func(do error, want ...string) {
		t.Helper()
		must(t, do)
		status = map[fleet.Status]fleet.Status{fleet.StatusError: fleet.StatusRunning, fleet.StatusRunning: fleet.StatusError}[status]
		must(t, s.SetStatus(t.Context(), admin, "vm-1", status)) // marks the end
		var got []string
		for {
			select {
			case what := <-heard:
				if what == "vm vm-1" {
					slices.Sort(got)
					if got = slices.Compact(got); !slices.Equal(got, want) {
						t.Errorf("heard %q, want %q", got, want)
					}
					return
				}
				got = append(got, what)
			case <-time.After(time.Minute):
				t.Fatal("nothing is heard any more")
			}
		}
	}
	hears(nil)
	op, err := s.Launch(t.Context(), admin, launchOf(2))
	hears(err, "operation 1", "vm lab-1", "vm lab-2")
	w := workspace(t, s)
	c := claim(t, w)
	vms := ids(op)
	hears(nil, "operation 1")
	hears(c.Enter(t.Context(), fleet.PhasePlanning), "operation 1")
	hears(c.Plan(t.Context(), vms), "operation 1")
	hears(c.GiveTokens(t.Context(), vms, [][]byte{fleet.HashToken("a"), fleet.HashToken("b")}))
	hears(c.Begin(t.Context(), vms, times(2, time.Now())), "operation 1")
	hears(c.Write(t.Context(), "a line\n")) // too often, it is asked for
	hears(s.SetStatus(t.Context(), admin, "lab-1", fleet.StatusRunning))
	hears(c.Created(t.Context(), vms[:1], times(1, time.Now())), "operation 1", "vm lab-1")
	hears(c.Created(t.Context(), vms[:1], times(1, time.Now())))
	hears(c.Failing(t.Context(), vms[1:]), "operation 1")
	hears(c.Failed(t.Context(), vms[1:], []string{"why"}), "operation 1", "vm lab-2")
	hears(s.StopOperation(t.Context(), op.ID), "operation 1")
	hears(c.Finish(t.Context(), fleet.OperationSucceeded, ""), "operation 1")
	_, err = s.Retry(t.Context(), admin, op.ID)
	hears(err, "operation 2", "vm lab-2")
	_, err = destroy(t, s, "lab-1", "lab-2")
	hears(err, "operation 2", "operation 3", "vm lab-1", "vm lab-2") // the second is told to stop
}
