package web

import (
	"strings"
	"testing"
	"time"

	"lablink/internal/fleet"
)

// Every state of an operation has words, whatever it does.
func TestOperationWords(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, kind := range []fleet.OperationKind{fleet.KindLaunch, fleet.KindDestroy} {
		for _, state := range fleet.OperationStates {
			for _, phase := range []fleet.Phase{"", fleet.PhasePreparing, fleet.PhasePlanning, fleet.PhaseApplying, fleet.PhaseCleaning} {
				for _, stopping := range []bool{true, false} {
					o := fleet.Operation{Kind: kind, State: state, Phase: phase, Stopping: stopping, Steps: []fleet.Step{{Hostname: "vm-1", State: fleet.StepCancelled}}}
					c, meaning := operationCondition(o), phaseMeaning(o)
					if c.Words == "" || c.Tone == "" || meaning == "" {
						t.Errorf("%s %s %s: %+v, %q", kind, state, phase, c, meaning)
					}
					if !state.Final() && (c.Tone != toneBusy || (c.Words == "stopping") != stopping) {
						t.Errorf("%s %s %s, stopping %v: %+v", kind, state, phase, stopping, c)
					}
					seen[c.Words] = string(kind)
				}
			}
		}
	}
	for _, words := range []string{"waiting for its turn", "stopping", "preparing", "planning", "creating VMs", "destroying VMs", "cleaning up", "stopped", "failed"} {
		if seen[words] == "" {
			t.Errorf("no operation is %q", words)
		}
	}
	// A destruction that was stopped leaves machines; a launch that was stopped leaves none.
	for kind, want := range map[fleet.OperationKind]tone{fleet.KindLaunch: toneIdle, fleet.KindDestroy: toneBad} {
		o := fleet.Operation{Kind: kind, State: fleet.OperationCancelled, Steps: []fleet.Step{{State: fleet.StepCancelled}}}
		if got := operationCondition(o); got.Tone != want {
			t.Errorf("a stopped %s: %+v", kind, got)
		}
	}
	if got := operationCondition(fleet.Operation{State: fleet.OperationSucceeded, Steps: []fleet.Step{{State: fleet.StepDone}}}); got != (condition{"done", "", toneGood}) {
		t.Errorf("%+v", got)
	}
}

func TestOperationTitle(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind fleet.OperationKind
		n    int
		want string
	}{
		{fleet.KindLaunch, 1, "Launch of vm-3"},
		{fleet.KindLaunch, 5, "Launch of 5 VMs"},
		{fleet.KindDestroy, 1, "Destruction of vm-3"},
		{fleet.KindDestroy, 2, "Destruction of 2 VMs"},
	} {
		o := fleet.Operation{Kind: c.kind, Steps: make([]fleet.Step, c.n)}
		o.Steps[0].Hostname = "vm-3"
		if got := operationTitle(o); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestRemaining(t *testing.T) {
	t.Parallel()
	now := time.Now()
	step := func(state fleet.StepState, began, ended time.Duration) fleet.Step {
		s := fleet.Step{State: state}
		if began > 0 {
			s.Started = now.Add(-began)
		}
		if ended > 0 {
			s.Ended = now.Add(-ended)
		}
		return s
	}
	many := func(n int, s fleet.Step) []fleet.Step {
		all := make([]fleet.Step, n)
		for i := range all {
			all[i] = s
		}
		return all
	}
	join := func(parts ...[]fleet.Step) []fleet.Step {
		var all []fleet.Step
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	ten := many(10, step(fleet.StepDone, 2*time.Minute, time.Minute)) // at once, a minute each
	for name, c := range map[string]struct {
		steps []fleet.Step
		want  time.Duration
		known bool
	}{
		"none is done":                   {many(3, step(fleet.StepRunning, time.Minute, 0)), 0, false},
		"an earlier runner did those":    {join(many(3, step(fleet.StepDone, 0, 0)), many(3, step(fleet.StepRunning, time.Minute, 0))), 0, false},
		"all are done":                   {ten, 0, false},
		"the rest is under way":          {join(ten, many(5, step(fleet.StepRunning, 20*time.Second, 0))), 40 * time.Second, true},
		"the rest takes a little longer": {join(ten, many(5, step(fleet.StepRunning, 90*time.Second, 0))), 0, true},
		"the rest takes far longer":      {join(ten, many(5, step(fleet.StepRunning, 10*time.Minute, 0))), 0, false},
		"two more rounds":                {join(ten, many(10, step(fleet.StepRunning, 30*time.Second, 0)), many(11, step(fleet.StepPlanned, 0, 0))), 150 * time.Second, true},
		"the first of a round":           {join(ten[:1], many(9, step(fleet.StepRunning, 2*time.Minute, 0)), many(10, step(fleet.StepPlanned, 0, 0))), time.Minute, true},
		"one after the other": {[]fleet.Step{
			step(fleet.StepDone, time.Minute, 50*time.Second), step(fleet.StepDone, 50*time.Second, 40*time.Second), step(fleet.StepWaiting, 0, 0),
		}, 10 * time.Second, true},
		"a failure's end is not known so far": {join(ten, many(5, step(fleet.StepFailed, 2*time.Minute, 0)), many(20, step(fleet.StepPlanned, 0, 0))), 2 * time.Minute, true},
	} {
		o := fleet.Operation{State: fleet.OperationRunning, Phase: fleet.PhaseApplying, Steps: c.steps}
		if got, known := remaining(o, now); got.Round(time.Millisecond) != c.want || known != c.known {
			t.Errorf("%s: %v, %v, want %v, %v", name, got, known, c.want, c.known)
		}
		o.Stopping = true
		if _, known := remaining(o, now); known {
			t.Errorf("%s: known, although it stops", name)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "a few seconds left", 20 * time.Second: "less than a minute left", time.Minute: "about 1 minute left",
		61 * time.Second: "about 2 minutes left", 119 * time.Minute: "about 119 minutes left", 121 * time.Minute: "about 3 hours left",
	} {
		if got := left(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestStartupWords(t *testing.T) {
	t.Parallel()
	o, vms := fleet.Operation{}, map[string]fleet.VM{}
	add := func(name string, state fleet.StepState, terraform, container time.Duration) {
		o.Steps = append(o.Steps, fleet.Step{Hostname: name, State: state})
		vms[name] = fleet.VM{Provider: "local", Startup: fleet.StartupTimes{Terraform: terraform, Container: container}}
	}
	add("vm-1", fleet.StepRunning, 0, 0)
	add("vm-2", fleet.StepDone, time.Minute, 0) // boots
	if got := startupWords(o, vms); got != "" {
		t.Errorf("none has started: %q", got)
	}
	add("vm-3", fleet.StepDone, 40*time.Second, 10*time.Second)
	add("vm-4", fleet.StepDone, 60*time.Second, 10*time.Second)
	add("vm-5", fleet.StepFailed, 600*time.Second, 10*time.Second)
	if got, want := startupWords(o, vms), "median 60 s, slowest 70 s (vm-4), of the 2 that have started"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	vms["vm-2"] = fleet.VM{Provider: "local", Startup: fleet.StartupTimes{Terraform: 50 * time.Second, Container: 5 * time.Second}}
	if got, want := startupWords(o, vms), "median 55 s, slowest 70 s (vm-4)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestReasonOf(t *testing.T) {
	t.Parallel()
	short := "no capacity\nof this type\nin this zone"
	if got := reasonOf("id", " "+short+"\n\n"); got != (reasonView{Short: short}) {
		t.Errorf("%+v", got)
	}
	for _, long := range []string{short + "\nand more", strings.Repeat("ä", 241), strings.Repeat("x ", 200)} {
		got := reasonOf("id", long)
		if got.ID != "id" || got.All != strings.TrimSpace(long) || !strings.HasSuffix(got.Short, " …") || !strings.HasPrefix(long, strings.TrimSuffix(got.Short, " …")) {
			t.Errorf("%+v", got)
		}
		if lines, n := strings.Count(got.Short, "\n")+1, len([]rune(got.Short)); lines > 3 || n > 242 {
			t.Errorf("%d lines, %d characters", lines, n)
		}
	}
}
