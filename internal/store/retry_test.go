package store_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// conflict fails unless err is a Conflict that says something.
func conflict(t *testing.T, err error, says string) {
	t.Helper()
	wantKind(t, err, fleet.Conflict)
	if !strings.Contains(err.Error(), says) {
		t.Errorf("%q does not say %q", err, says)
	}
}

func TestRetry_Launch(t *testing.T) {
	t.Parallel()
	s := open(t)
	l := launchOf(5)
	l.InstanceType = "large"
	op, err := s.Launch(t.Context(), admin, l)
	must(t, err)
	retry := func(id int64) (fleet.Operation, error) { return s.Retry(t.Context(), admin, id) }
	_, err = retry(op.ID + 1)
	wantKind(t, err, fleet.NotFound)
	_, err = retry(op.ID)
	conflict(t, err, "still pending")
	w := workspace(t, s)
	c := claim(t, w)
	_, err = retry(op.ID)
	conflict(t, err, "still running")
	must(t, c.GiveTokens(t.Context(), ids(op)[:1], [][]byte{fleet.HashToken("first")}))
	must(t, c.Created(t.Context(), ids(op)[3:4], times(1, time.Now())))
	must(t, c.Failed(t.Context(), ids(op)[:3], []string{"a", "b", "c"}))
	_, err = retry(op.ID)
	conflict(t, err, "still running")
	if v := vm(t, s, "lab-1"); v.Creation != fleet.CreationFailed || v.Status != fleet.StatusError {
		t.Errorf("a refused retry changed %+v", v)
	}
	must(t, c.Cancelled(t.Context(), ids(op)[4:]))
	must(t, c.Finish(t.Context(), fleet.OperationSucceeded, ""))
	destroyed(t, s, "lab-2")
	runIn(t, w, newest(t, s))

	again, err := retry(op.ID)
	must(t, err)
	if again.Kind != fleet.KindLaunch || again.Provider != local || again.InstanceType != "large" || !slices.Equal(names(again), []string{"lab-1", "lab-3"}) ||
		again.State != fleet.OperationPending || again.Attempt != 0 || again.Stopping || again.Error != "" {
		t.Errorf("the second try is %+v", again)
	}
	for _, name := range names(again) {
		if v := vm(t, s, name); v.Creation != fleet.CreationPending || v.Status != fleet.StatusProvisioning || v.Free() {
			t.Errorf("%+v", v)
		}
	}
	_, err = retry(op.ID)
	conflict(t, err, "nothing is left")
	old, err := s.Operation(t.Context(), op.ID)
	must(t, err)
	if old.State != fleet.OperationSucceeded || old.Count(fleet.StepFailed) != 3 {
		t.Errorf("the first try is %+v", old)
	}
	// One fails again, and may be tried from either.
	c = claim(t, w)
	must(t, c.GiveTokens(t.Context(), ids(again)[:1], [][]byte{fleet.HashToken("second")}))
	must(t, s.SetStatus(t.Context(), admin, "lab-1", fleet.StatusRunning))
	must(t, c.Created(t.Context(), ids(again)[:1], times(1, time.Now())))
	must(t, c.Failed(t.Context(), ids(again)[1:], []string{"c again"}))
	must(t, c.Finish(t.Context(), fleet.OperationSucceeded, ""))
	if v := vm(t, s, "lab-1"); !v.Free() {
		t.Errorf("after the second try: %+v", v)
	}
	if _, err := s.MachineByToken(t.Context(), fleet.HashToken("second")); err != nil {
		t.Error(err)
	}
	_, err = s.MachineByToken(t.Context(), fleet.HashToken("first"))
	wantKind(t, err, fleet.Unauthenticated)
	third, err := retry(op.ID)
	must(t, err)
	if !slices.Equal(names(third), []string{"lab-3"}) {
		t.Errorf("the third try is %+v", third)
	}
	_, err = retry(again.ID)
	conflict(t, err, "nothing is left")
	runIn(t, w, third)
	for _, id := range []int64{op.ID, again.ID, third.ID} {
		_, err := retry(id)
		conflict(t, err, "nothing is left")
	}
}

func TestRetry_Destroy(t *testing.T) {
	t.Parallel()
	s := open(t)
	ready(t, s, 4)
	op := destroyed(t, s, "lab-1", "lab-2", "lab-3")
	w := workspace(t, s)
	c := claim(t, w)
	must(t, c.Destroyed(t.Context(), ids(op)[:1], times(1, time.Now())))
	must(t, c.Failed(t.Context(), ids(op)[1:2], []string{"not allowed"}))
	must(t, c.Cancelled(t.Context(), ids(op)[2:]))
	must(t, c.Finish(t.Context(), fleet.OperationCancelled, ""))
	again, err := s.Retry(t.Context(), admin, op.ID)
	must(t, err)
	if again.Kind != fleet.KindDestroy || !slices.Equal(names(again), []string{"lab-2", "lab-3"}) {
		t.Errorf("the second try is %+v", again)
	}
	_, err = s.Retry(t.Context(), admin, op.ID) // it is under way
	conflict(t, err, "nothing is left")
	c = claim(t, w)
	must(t, c.Destroyed(t.Context(), ids(again)[:1], times(1, time.Now())))
	must(t, c.Failed(t.Context(), ids(again)[1:], []string{"still not allowed"}))
	must(t, c.Finish(t.Context(), fleet.OperationFailed, "1 of 2"))
	third, err := s.Retry(t.Context(), admin, again.ID)
	must(t, err)
	if !slices.Equal(names(third), []string{"lab-3"}) {
		t.Errorf("the third try is %+v", third)
	}
	runIn(t, w, third)
	for _, id := range []int64{op.ID, again.ID, third.ID} {
		_, err := s.Retry(t.Context(), admin, id)
		conflict(t, err, "nothing is left")
	}
	if got := live(t, s); !slices.Equal(got, []string{"lab-4"}) {
		t.Errorf("the fleet is %v", got)
	}
}

// A second try takes no more room than the first.
func TestRetry_AtTheLimit(t *testing.T) {
	t.Parallel()
	s := open(t)
	l := launchOf(3)
	l.Most = 3
	op, err := s.Launch(t.Context(), admin, l)
	must(t, err)
	c := claim(t, workspace(t, s))
	must(t, c.Failed(t.Context(), ids(op), []string{"a", "b", "c"}))
	must(t, c.Finish(t.Context(), fleet.OperationFailed, "none"))
	_, err = s.Launch(t.Context(), admin, store.Launch{Provider: local, Prefix: "lab-", Count: 1, Most: 3})
	wantKind(t, err, fleet.Invalid)
	_, err = s.Retry(t.Context(), admin, op.ID)
	must(t, err)
	if got := live(t, s); len(got) != 3 {
		t.Errorf("the fleet is %v", got)
	}
}

func TestStopOperation(t *testing.T) {
	t.Parallel()
	s := open(t)
	op := launch(t, s, 1)
	wantKind(t, s.StopOperation(t.Context(), op.ID+1), fleet.NotFound)
	must(t, s.StopOperation(t.Context(), op.ID))
	must(t, s.StopOperation(t.Context(), op.ID)) // a double click
	w := workspace(t, s)
	c := claim(t, w)
	if !c.Stopping {
		t.Error("the runner is not told")
	}
	must(t, s.StopOperation(t.Context(), op.ID))
	if asked, err := c.StopAsked(t.Context()); err != nil || !asked {
		t.Errorf("StopAsked = %v, %v", asked, err)
	}
	must(t, c.Cancelled(t.Context(), ids(op)))
	must(t, c.Finish(t.Context(), fleet.OperationCancelled, ""))
	conflict(t, s.StopOperation(t.Context(), op.ID), "over already: cancelled")
	next := launch(t, s, 1)
	c = claim(t, w)
	if asked, err := c.StopAsked(t.Context()); err != nil || asked {
		t.Errorf("StopAsked of the next one = %v, %v", asked, err)
	}
	must(t, s.StopOperation(t.Context(), next.ID))
	if asked, err := c.StopAsked(t.Context()); err != nil || !asked {
		t.Errorf("StopAsked = %v, %v", asked, err)
	}
}
