package store_test

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// fleetModel is what a small fleet must look like, by the table of transitions
// alone. The database is driven at random beside it.
type fleetModel struct {
	t        *testing.T
	s        *store.Store
	vms      []string
	state    map[string]fleet.SeatState
	holder   map[string]int   // participant by VM
	seat     map[string]int64 // by VM
	delivery map[string]int64 // the newest that was seen, by VM
	next     int              // fresh participants and codes
}

// TestSeat_Property drives the store with random requests, reports, releases and
// stale acknowledgements, and compares each row with the model after each step.
func TestSeat_Property(t *testing.T) {
	t.Parallel()
	s := open(t)
	batch := 0
	rapid.Check(t, func(rt *rapid.T) {
		batch++
		m := &fleetModel{t: t, s: s, state: map[string]fleet.SeatState{}, holder: map[string]int{}, seat: map[string]int64{},
			delivery: map[string]int64{}, next: batch * 10_000}
		for i := range 3 {
			name := fmt.Sprintf("run-%d-vm-%d", batch, i)
			m.vms = append(m.vms, name)
			m.state[name] = fleet.SeatNone
			must(t, s.RegisterVMs(t.Context(), admin, []string{name}, [][]byte{fleet.HashToken(name)}, 100_000))
			must(t, s.SetStatus(t.Context(), admin, name, fleet.StatusRunning))
		}
		rt.Repeat(map[string]func(*rapid.T){
			"assign": m.assign, "renew": m.renew, "deliver": m.deliver, "acknowledge": m.acknowledge,
			"release": m.release, "clean by hand": m.cleanByHand, "": m.check,
		})
		for _, name := range m.vms { // out of the way of the next run
			if m.state[name].Held() {
				must(t, s.Release(t.Context(), admin, name))
				m.state[name] = fleet.SeatReleasing
			}
			if m.state[name] != fleet.SeatNone {
				must(t, s.ConfirmClean(t.Context(), admin, name))
			}
			must(t, s.RemoveVM(t.Context(), admin, name))
		}
	})
}

func (m *fleetModel) draw(rt *rapid.T) string { return rapid.SampledFrom(m.vms).Draw(rt, "vm") }

// move applies an event to the model; err is what the store answered.
func (m *fleetModel) move(rt *rapid.T, name string, e fleet.SeatEvent, err error) bool {
	next, ok := m.state[name].Next(e)
	if ok != (err == nil) {
		rt.Fatalf("%s of %s, which is %s: %v; the table says allowed = %v", e, name, m.state[name], err, ok)
	}
	if ok {
		m.state[name] = next
	}
	return ok
}

func (m *fleetModel) assign(rt *rapid.T) {
	m.next++
	free := 0
	for _, name := range m.vms {
		if m.state[name] == fleet.SeatNone {
			free++
		}
	}
	seat, err := m.s.Assign(m.t.Context(), request(m.next))
	if free == 0 {
		if !errors.Is(err, store.ErrFull) {
			rt.Fatalf("Assign with no VM free: %+v, %v", seat, err)
		}
		return
	}
	if err != nil {
		rt.Fatalf("Assign with %d VMs free: %v", free, err)
	}
	m.move(rt, seat.Hostname, fleet.EventRequest, nil)
	m.holder[seat.Hostname], m.seat[seat.Hostname] = m.next, seat.ID
}

func (m *fleetModel) renew(rt *rapid.T) {
	name := m.draw(rt)
	m.next++
	err := m.s.Renew(m.t.Context(), admin, m.seat[name], request(m.next).Command)
	m.move(rt, name, fleet.EventRenew, err)
}

func (m *fleetModel) deliver(rt *rapid.T) {
	name := m.draw(rt)
	p := store.Poll{VM: vm(m.t, m.s, name).ID, Replica: 1, ID: int64(m.next)}
	d, err := m.s.OpenPoll(m.t.Context(), p)
	if err != nil {
		rt.Fatal(err)
	}
	if (d != nil) != m.state[name].Pending() {
		rt.Fatalf("%s is %s, a poll brings %+v", name, m.state[name], d)
	}
	if d == nil {
		return
	}
	if d.ID < m.delivery[name] {
		rt.Fatalf("%s: delivery %d came after %d", name, d.ID, m.delivery[name])
	}
	m.delivery[name] = d.ID
	if d.State != fleet.SeatReleasing {
		must(m.t, m.s.Delivered(m.t.Context(), p.VM, d.ID))
		m.move(rt, name, fleet.EventDeliver, nil)
	}
}

func (m *fleetModel) acknowledge(rt *rapid.T) {
	name := m.draw(rt)
	e := rapid.SampledFrom([]fleet.SeatEvent{fleet.EventConnect, fleet.EventFail, fleet.EventClean}).Draw(rt, "result")
	stale := rapid.Bool().Draw(rt, "stale")
	p := store.Poll{VM: vm(m.t, m.s, name).ID, Replica: 1, ID: 1}
	d, err := m.s.OpenPoll(m.t.Context(), p)
	if err != nil {
		rt.Fatal(err)
	}
	if d == nil || stale {
		// What nobody delivered must change nothing.
		if err := m.s.Acknowledge(m.t.Context(), admin, name, -1, e, "stale"); fleet.KindOf(err) != fleet.Conflict {
			rt.Fatalf("a stale acknowledgement of %s: %v", name, err)
		}
		return
	}
	if e == fleet.EventFail && m.state[name] == fleet.SeatReleasing {
		e = fleet.EventCleanFailed
	}
	m.move(rt, name, e, m.s.Acknowledge(m.t.Context(), admin, name, d.ID, e, "because"))
}

func (m *fleetModel) release(rt *rapid.T) {
	name := m.draw(rt)
	if m.move(rt, name, fleet.EventRelease, m.s.Release(m.t.Context(), admin, name)) {
		delete(m.holder, name)
	}
}

func (m *fleetModel) cleanByHand(rt *rapid.T) {
	name := m.draw(rt)
	m.move(rt, name, fleet.EventClean, m.s.ConfirmClean(m.t.Context(), admin, name))
}

// check compares each row with the model.
func (m *fleetModel) check(rt *rapid.T) {
	for _, name := range m.vms {
		v := vm(m.t, m.s, name)
		if v.Seat != m.state[name] {
			rt.Fatalf("%s is %s, the model says %s", name, v.Seat, m.state[name])
		}
		n, held := m.holder[name]
		if held != (v.Email != "") || held && v.Email != request(n).Email {
			rt.Fatalf("%s is held by %q, the model says participant %d, %v", name, v.Email, n, held)
		}
		if v.Free() != (m.state[name] == fleet.SeatNone) {
			rt.Fatalf("%s: Free() = %v in state %s", name, v.Free(), m.state[name])
		}
		if held {
			if seat, err := m.s.SeatOf(m.t.Context(), request(n).Browser); err != nil || seat.Hostname != name {
				rt.Fatalf("the holder of %s sees %+v, %v", name, seat, err)
			}
		}
	}
}
