package store_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// machineModel is a VM as it must be.
type machineModel struct {
	hostname string
	live     bool
	creation fleet.Creation
	status   fleet.Status
	reported fleet.Status
	held     int // by a participant, 0 if by none
}

func (m *machineModel) free() bool {
	return m.live && m.status == fleet.StatusRunning && m.held == 0
}

func (m *machineModel) end() { m.live, m.held, m.reported = false, 0, "" }

// operationModel is an operation as it must be.
type operationModel struct {
	kind     fleet.OperationKind
	state    fleet.OperationState
	stopping bool
	attempt  int
	steps    map[int64]fleet.StepState
}

// poolModel is what the fleet of one provider must look like. The database is
// driven at random beside it, also by runners that lost their claim.
type poolModel struct {
	t        *testing.T
	s        *store.Store
	w        *store.Workspace
	provider string
	vms      map[int64]*machineModel
	ops      map[int64]*operationModel
	claims   []*store.Claim
	seen     map[int64]fleet.OperationState // at the last look
	names    map[string]bool                // that were ever used
	next     *int                           // participants
}

const poolMost = 6

// TestOperations_Property drives launches, destructions, their runners and the
// VMs' reports at random, and compares everything with the model.
func TestOperations_Property(t *testing.T) {
	t.Parallel()
	s := open(t)
	batch, next := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		batch++
		provider := fmt.Sprintf("p%d", batch)
		w, err := s.LockWorkspace(t.Context(), provider)
		must(t, err)
		defer w.Close()
		m := &poolModel{
			t: t, s: s, w: w, provider: provider, vms: map[int64]*machineModel{}, ops: map[int64]*operationModel{},
			seen: map[int64]fleet.OperationState{}, names: map[string]bool{}, next: &next,
		}
		defer func() { // out of the way of the next run
			vms, _, err := s.HoldersOf(t.Context(), store.Destroy{Provider: provider, All: true})
			must(t, err)
			if len(vms) > 0 {
				_, err := s.Destroy(t.Context(), admin, store.Destroy{Provider: provider, All: true, Confirm: len(vms)})
				must(t, err)
			}
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"launch": m.launch, "destroy": m.destroy, "destroy all": m.destroyAll, "claim": m.claim, "claim again": m.claim, "tell": m.tell, "tell more": m.tell,
			"finish": m.finish, "retry": m.retry, "stop": m.stop, "report": m.report, "assign": m.assign, "": m.check,
		})
	})
}

func (m *poolModel) live() (ids []int64) {
	for _, id := range slices.Sorted(maps.Keys(m.vms)) {
		if m.vms[id].live {
			ids = append(ids, id)
		}
	}
	return ids
}

func (m *poolModel) wants(rt *rapid.T, what string, err error, ok bool, kind fleet.Kind) bool {
	if ok != (err == nil) || err != nil && fleet.KindOf(err) != kind {
		rt.Fatalf("%s: %v, the model says allowed = %v", what, err, ok)
	}
	return ok
}

// added notes a new operation.
func (m *poolModel) added(rt *rapid.T, op fleet.Operation) *operationModel {
	o := &operationModel{kind: op.Kind, state: fleet.OperationPending, steps: map[int64]fleet.StepState{}}
	for _, id := range ids(op) {
		o.steps[id] = fleet.StepWaiting
	}
	if m.ops[op.ID] != nil || op.State != o.state || op.Stopping {
		rt.Fatalf("a new operation is %+v", op)
	}
	m.ops[op.ID] = o
	return o
}

func (m *poolModel) launch(rt *rapid.T) {
	n := rapid.IntRange(1, 3).Draw(rt, "n")
	op, err := m.s.Launch(m.t.Context(), admin, store.Launch{Provider: m.provider, Prefix: m.provider + "-", InstanceType: "small", Count: n, Most: poolMost})
	if !m.wants(rt, "launch", err, len(m.live())+n <= poolMost, fleet.Invalid) {
		return
	}
	if o := m.added(rt, op); len(o.steps) != n {
		rt.Fatalf("%d VMs instead of %d", len(o.steps), n)
	}
	for _, step := range op.Steps {
		if m.names[step.Hostname] {
			rt.Fatalf("%s is used twice", step.Hostname)
		}
		m.names[step.Hostname] = true
		m.vms[step.VM] = &machineModel{hostname: step.Hostname, live: true, creation: fleet.CreationPending, status: fleet.StatusProvisioning}
	}
}

func (m *poolModel) destroy(rt *rapid.T) {
	if len(m.vms) == 0 {
		return
	}
	chosen := rapid.SliceOfNDistinct(rapid.SampledFrom(slices.Sorted(maps.Keys(m.vms))), 1, 2, rapid.ID[int64]).Draw(rt, "vms")
	var list []string
	allLive := true
	for _, id := range chosen {
		list, allLive = append(list, m.vms[id].hostname), allLive && m.vms[id].live
	}
	op, err := m.s.Destroy(m.t.Context(), admin, store.Destroy{Provider: m.provider, Hostnames: list})
	if m.wants(rt, fmt.Sprint("destroy ", list), err, allLive, fleet.NotFound) {
		m.gone(rt, op, chosen)
	}
}

func (m *poolModel) destroyAll(rt *rapid.T) {
	all := m.live()
	op, err := m.s.Destroy(m.t.Context(), admin, store.Destroy{Provider: m.provider, All: true, Confirm: len(all)})
	if m.wants(rt, "destroy all", err, len(all) > 0, fleet.Conflict) {
		m.gone(rt, op, all)
	}
}

func (m *poolModel) gone(rt *rapid.T, op fleet.Operation, vms []int64) {
	slices.Sort(vms)
	if !slices.Equal(ids(op), vms) {
		rt.Fatalf("destroyed are %v instead of %v", ids(op), vms)
	}
	m.added(rt, op)
	for _, id := range vms {
		m.vms[id].end()
	}
	for _, o := range m.ops { // nobody makes VMs that nobody wants any more
		left := 0
		for id := range o.steps {
			if m.vms[id].live {
				left++
			}
		}
		o.stopping = o.stopping || o.kind == fleet.KindLaunch && !o.state.Final() && left == 0
	}
}

func (m *poolModel) drawOperation(rt *rapid.T) int64 {
	if len(m.ops) == 0 {
		return 0
	}
	return rapid.SampledFrom(slices.Sorted(maps.Keys(m.ops))).Draw(rt, "operation")
}

func (m *poolModel) retry(rt *rapid.T) {
	id := m.drawOperation(rt)
	if id == 0 {
		return
	}
	o := m.ops[id]
	var left []int64
	for vm, step := range o.steps {
		v := m.vms[vm]
		later := false
		for other, p := range m.ops {
			_, there := p.steps[vm]
			later = later || there && other > id
		}
		if o.kind == fleet.KindLaunch && step == fleet.StepFailed && v.creation == fleet.CreationFailed && v.live ||
			o.kind == fleet.KindDestroy && (step == fleet.StepFailed || step == fleet.StepCancelled) && !later {
			left = append(left, vm)
		}
	}
	slices.Sort(left)
	op, err := m.s.Retry(m.t.Context(), admin, id)
	if !m.wants(rt, fmt.Sprint("retry ", id), err, o.state.Final() && len(left) > 0, fleet.Conflict) {
		return
	}
	if m.added(rt, op); op.Kind != o.kind || !slices.Equal(ids(op), left) {
		rt.Fatalf("the second try is %+v, want %v", op, left)
	}
	for _, vm := range left {
		if v := m.vms[vm]; v.live {
			v.creation, v.status, v.reported = fleet.CreationPending, fleet.StatusProvisioning, ""
		}
	}
}

func (m *poolModel) stop(rt *rapid.T) {
	if id := m.drawOperation(rt); id != 0 {
		o := m.ops[id]
		o.stopping = m.wants(rt, "stop", m.s.StopOperation(m.t.Context(), id), !o.state.Final(), fleet.Conflict) || o.stopping
	}
}

func (m *poolModel) report(rt *rapid.T) {
	if len(m.vms) == 0 {
		return
	}
	v := m.vms[rapid.SampledFrom(slices.Sorted(maps.Keys(m.vms))).Draw(rt, "vm")]
	status := rapid.SampledFrom([]fleet.Status{fleet.StatusRunning, fleet.StatusRunning, fleet.StatusError, fleet.StatusInitializing}).Draw(rt, "status")
	err := m.s.SetStatus(m.t.Context(), fleet.Actor{Kind: "vm"}, v.hostname, status)
	switch {
	case !m.wants(rt, "report", err, v.live && v.creation != fleet.CreationFailed, fleet.NotFound):
	case v.creation == fleet.CreationPending:
		v.reported = status
	default:
		v.status = status
	}
}

func (m *poolModel) assign(rt *rapid.T) {
	*m.next++
	seat, err := m.s.Assign(m.t.Context(), request(*m.next))
	free := 0
	for _, v := range m.vms {
		if v.free() {
			free++
		}
		if err == nil && v.live && v.hostname == seat.Hostname {
			if !v.free() {
				rt.Fatalf("a participant got %+v", v)
			}
			v.held = *m.next
			return
		}
	}
	if free > 0 || !errors.Is(err, store.ErrFull) {
		rt.Fatalf("Assign with %d free: %+v, %v", free, seat, err)
	}
}

// check compares everything with the model.
func (m *poolModel) check(rt *rapid.T) {
	vms, _, err := m.s.VMs(m.t.Context(), store.VMFilter{})
	must(m.t, err)
	if want := len(m.live()); len(vms) != want || want > poolMost {
		rt.Fatalf("%d VMs live, the model says %d of %d", len(vms), want, poolMost)
	}
	free := 0
	for _, v := range vms {
		want := m.vms[v.ID]
		if v.Hostname != want.hostname || v.Status != want.status || v.Creation != want.creation || v.Free() != want.free() || (v.Email != "") != (want.held > 0) {
			rt.Fatalf("VM %+v, the model says %+v", v, want)
		}
		if v.Free() {
			free++
		}
		if v.Free() && v.Creation != fleet.CreationDone {
			rt.Fatalf("free, and not made: %+v", v)
		}
	}
	if n, err := m.s.FreeCount(m.t.Context()); err != nil || n != free {
		rt.Fatalf("FreeCount = %d, %v; %d are free", n, err, free)
	}
	ops, err := m.s.Operations(m.t.Context(), len(m.ops))
	must(m.t, err)
	for _, op := range ops {
		m.checkOperation(rt, op)
	}
	standing := map[int64]int{}
	for _, c := range m.claims[max(0, len(m.claims)-6):] {
		if m.noted(rt, c, "nothing", c.Plan(m.t.Context(), nil)) {
			standing[c.ID]++
		}
		if standing[c.ID] > 1 {
			rt.Fatalf("two runners have operation %d", c.ID)
		}
	}
}

func (m *poolModel) checkOperation(rt *rapid.T, op fleet.Operation) {
	want := m.ops[op.ID]
	if was, known := m.seen[op.ID]; known && was != op.State && !was.CanMove(op.State) {
		rt.Fatalf("operation %d went from %s to %s", op.ID, was, op.State)
	}
	m.seen[op.ID] = op.State
	if op.State != want.state || op.Attempt != want.attempt || op.Kind != want.kind || len(op.Steps) != len(want.steps) || op.Ended.IsZero() == op.State.Final() {
		rt.Fatalf("operation %+v, the model says %+v", op, want)
	}
	if op.Stopping != want.stopping {
		rt.Fatalf("operation %+v, the model says stopping = %v", op, want.stopping)
	}
	for _, step := range op.Steps {
		if step.State != want.steps[step.VM] {
			rt.Fatalf("step %+v of operation %d, the model says %s", step, op.ID, want.steps[step.VM])
		}
	}
}
