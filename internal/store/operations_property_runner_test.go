package store_test

import (
	"errors"
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// claim takes an operation as the next runner does, also from one that lives.
func (m *poolModel) claim(rt *rapid.T) {
	var want int64 // running before pending, then by age
	for _, id := range slices.Sorted(maps.Keys(m.ops)) {
		o := m.ops[id]
		if !o.state.Final() && (want == 0 || o.state == fleet.OperationRunning && m.ops[want].state != o.state) {
			want = id
		}
	}
	c, err := m.w.Claim(m.t.Context())
	must(m.t, err)
	if c == nil || want == 0 {
		if c != nil || want != 0 {
			rt.Fatalf("claimed %+v, want operation %d", c, want)
		}
		return
	}
	o := m.ops[want]
	o.state, o.attempt = fleet.OperationRunning, o.attempt+1
	if c.ID != want || c.Attempt != o.attempt {
		rt.Fatalf("claimed %+v, want operation %d for the %d. time", c.Operation, want, o.attempt)
	}
	m.claims = append(m.claims, c)
}

// stands reports whether a claim is the one that counts.
func (m *poolModel) stands(c *store.Claim) bool {
	o := m.ops[c.ID]
	return o.state == fleet.OperationRunning && o.attempt == c.Attempt
}

func (m *poolModel) drawClaim(rt *rapid.T) *store.Claim {
	if len(m.claims) == 0 {
		return nil
	}
	return m.claims[len(m.claims)-1-rapid.IntRange(0, min(len(m.claims)-1, 4)).Draw(rt, "claim")]
}

func (m *poolModel) noted(rt *rapid.T, c *store.Claim, what string, err error) bool {
	stands := m.stands(c)
	if stands && err != nil || !stands && !errors.Is(err, store.ErrClaimLost) {
		rt.Fatalf("%s in operation %d, attempt %d: %v; it stands = %v", what, c.ID, c.Attempt, err, stands)
	}
	return stands
}

// tell notes what Terraform did with one VM.
func (m *poolModel) tell(rt *rapid.T) {
	c := m.drawClaim(rt)
	if c == nil {
		return
	}
	id := rapid.SampledFrom(ids(c.Operation)).Draw(rt, "vm")
	kinds := []string{"plan", "begin", "done", "failing", "failed", "cancelled"}
	m.tellOf(rt, c, id, rapid.SampledFrom(kinds).Draw(rt, "what"))
}

func (m *poolModel) tellOf(rt *rapid.T, c *store.Claim, id int64, what string) {
	ctx, one := m.t.Context(), []int64{id}
	var err error
	switch what {
	case "plan":
		err = c.Plan(ctx, one)
	case "begin":
		err = c.Begin(ctx, one, times(1, time.Now()))
	case "done":
		if c.Kind == fleet.KindLaunch {
			err = c.Created(ctx, one, times(1, time.Now()))
		} else {
			err = c.Destroyed(ctx, one, times(1, time.Now()))
		}
	case "failing":
		err = c.Failing(ctx, one)
	case "failed":
		err = c.Failed(ctx, one, []string{"why"})
	case "cancelled":
		err = c.Cancelled(ctx, one)
	}
	if !m.noted(rt, c, what, err) {
		return
	}
	steps, v := m.ops[c.ID].steps, m.vms[id]
	was := steps[id]
	if was == fleet.StepDone {
		return
	}
	switch what {
	case "plan":
		steps[id] = fleet.StepPlanned
	case "begin":
		if was == fleet.StepWaiting || was == fleet.StepPlanned {
			steps[id] = fleet.StepRunning
		}
	case "done":
		steps[id] = fleet.StepDone
		if c.Kind == fleet.KindLaunch && v.live && v.creation != fleet.CreationDone {
			if v.creation = fleet.CreationDone; v.reported != "" {
				v.status = v.reported
			}
			v.reported = ""
		}
	case "failing":
		steps[id] = fleet.StepFailed
	case "failed":
		steps[id] = fleet.StepFailed
		m.failed(v)
	case "cancelled":
		steps[id] = fleet.StepCancelled
		if v.live && v.creation != fleet.CreationDone {
			v.end()
		}
	}
}

func (m *poolModel) failed(v *machineModel) {
	if v.creation == fleet.CreationPending {
		v.creation, v.status, v.reported = fleet.CreationFailed, fleet.StatusError, ""
	}
}

// finish ends an operation, with all of its VMs settled.
func (m *poolModel) finish(rt *rapid.T) {
	c := m.drawClaim(rt)
	if c == nil {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(m.ops[c.ID].steps)) {
		if m.stands(c) && m.ops[c.ID].steps[id] != fleet.StepCancelled {
			m.tellOf(rt, c, id, "failed")
		}
	}
	final := rapid.SampledFrom([]fleet.OperationState{fleet.OperationSucceeded, fleet.OperationFailed, fleet.OperationCancelled}).Draw(rt, "state")
	if m.noted(rt, c, "finish", c.Finish(m.t.Context(), final, "why")) {
		m.ops[c.ID].state = final
	}
}
