package store_test

import (
	"testing"
	"time"

	"lablink/internal/fleet"
)

// A VM that found no room is of another type than was asked for, and says why.
func TestClaim_Places(t *testing.T) {
	t.Parallel()
	s := open(t)
	op, other := launch(t, s, 3), launch(t, s, 1)
	c := claim(t, workspace(t, s))
	vms := ids(op)
	must(t, c.Place(t.Context(), append(vms[:2:2], ids(other)...), []string{"g5.xlarge", "g5.2xlarge", "g6.xlarge"}))
	live, err := s.LiveVMs(t.Context(), op.Provider)
	must(t, err)
	before := live["lab-3"].InstanceType
	for hostname, want := range map[string]string{"lab-1": "g5.xlarge", "lab-2": "g5.2xlarge", "lab-3": before, "lab-4": before} {
		if got := live[hostname].InstanceType; got != want {
			t.Errorf("%s is %s, want %s", hostname, got, want)
		}
	}
	targets, err := c.Targets(t.Context())
	must(t, err)
	if targets["lab-1"].InstanceType != "g5.xlarge" || targets["lab-1"].Machine != "" {
		t.Errorf("target %+v", targets["lab-1"])
	}

	must(t, c.Created(t.Context(), vms[:1], times(1, time.Now())))
	must(t, c.Failed(t.Context(), vms[1:2], []string{"there is no room"}))
	must(t, c.Note(t.Context(), vms, []string{"made as g5.xlarge\x00", "late", "late"}))
	now, err := s.Operation(t.Context(), op.ID)
	must(t, err)
	for i, want := range []struct {
		state   fleet.StepState
		message string
	}{{fleet.StepDone, "made as g5.xlarge"}, {fleet.StepFailed, "there is no room"}, {fleet.StepWaiting, ""}} {
		if step := now.Steps[i]; step.State != want.state || step.Message != want.message {
			t.Errorf("step %+v, want %+v", step, want)
		}
	}
}

func TestInstallation(t *testing.T) {
	t.Parallel()
	s := open(t)
	first, err := s.Installation(t.Context())
	must(t, err)
	again, err := s.Installation(t.Context())
	must(t, err)
	if len(first) != len("00000000-0000-0000-0000-000000000000") || again != first {
		t.Errorf("%q and again %q", first, again)
	}
}
