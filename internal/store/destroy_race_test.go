package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// A participant asks in the moment in which the VM is destroyed: either has it,
// never both.
func TestDestroy_WhileAssigning(t *testing.T) {
	t.Parallel()
	s := open(t)
	next := 0
	for round := range 40 {
		const vms, people = 3, 3
		list := ready(t, s, vms)
		careful := round%2 == 0 // destroys only what nobody has
		var wg sync.WaitGroup
		var mu sync.Mutex
		given := map[string]store.Request{}
		gone := map[string]bool{}
		for range people {
			next++
			r := request(next)
			wg.Go(func() {
				seat, err := s.Assign(t.Context(), r)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					given[seat.Hostname] = r
				} else if !errors.Is(err, store.ErrFull) {
					t.Errorf("Assign: %v", err)
				}
			})
		}
		for _, name := range list {
			wg.Go(func() {
				d := store.Destroy{Provider: local, Hostnames: []string{name}}
				if careful {
					d.Seen = store.Holders{name: 0}
				}
				_, err := s.Destroy(t.Context(), admin, d)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					gone[name] = true
				} else if !careful || fleet.KindOf(err) != fleet.Conflict {
					t.Errorf("Destroy: %v", err)
				}
			})
		}
		wg.Wait()
		for name, r := range given {
			seat, err := s.SeatOf(t.Context(), r.Browser)
			switch {
			case gone[name] && careful:
				t.Errorf("%s was given away and destroyed, although nobody had it", name)
			case gone[name] && !errors.Is(err, store.ErrNoSeat):
				t.Errorf("%s is destroyed, its holder sees %+v, %v", name, seat, err)
			case !gone[name] && (err != nil || seat.Hostname != name):
				t.Errorf("%s lives, its holder sees %+v, %v", name, seat, err)
			}
		}
		if careful && len(given)+len(gone) != vms {
			t.Errorf("%d VMs were given away and %d destroyed, of %d", len(given), len(gone), vms)
		}
		if rest := live(t, s); len(rest) > 0 {
			destroyed(t, s, rest...)
		}
		run(t, s, newest(t, s))
	}
}

// A launch of which nothing is left is told to stop; others are not.
func TestDestroy_StopsLaunches(t *testing.T) {
	t.Parallel()
	s := open(t)
	finished := launch(t, s, 1)
	run(t, s, finished)
	running := launch(t, s, 2)
	w := workspace(t, s)
	claim(t, w)
	waiting, other := launch(t, s, 2), launch(t, s, 1)
	foreign := launchOf(1)
	foreign.Provider, foreign.Prefix = "aws", "aws-"
	elsewhere, err := s.Launch(t.Context(), admin, foreign)
	must(t, err)
	stopping := func() (ids []int64) {
		ops, err := s.Operations(t.Context(), 100)
		must(t, err)
		for _, op := range slices.Backward(ops) {
			if op.Stopping {
				ids = append(ids, op.ID)
			}
		}
		return ids
	}
	want := func(ids ...int64) {
		t.Helper()
		if got := stopping(); !slices.Equal(got, ids) {
			t.Errorf("stopping are %v, want %v", got, ids)
		}
	}
	destroyed(t, s, "lab-1", "lab-2", "lab-4")
	want()
	destroyed(t, s, "lab-3")
	want(running.ID)
	destroyed(t, s, "lab-5")
	want(running.ID, waiting.ID)
	_, err = s.Destroy(t.Context(), admin, store.Destroy{Provider: local, All: true, Confirm: 1})
	must(t, err)
	want(running.ID, waiting.ID, other.ID)
	if op, err := s.Operation(t.Context(), elsewhere.ID); err != nil || op.Stopping {
		t.Errorf("another provider's launch: %+v, %v", op, err)
	}
}

// Terraform makes VMs, and tells of them, in the moment in which they are
// destroyed: neither side fails, whatever the order of their locks.
func TestDestroy_WhileTerraformTells(t *testing.T) {
	t.Parallel()
	s := open(t)
	const vms = 20
	for round := range 10 {
		l := launchOf(vms)
		l.Provider, l.Prefix = fmt.Sprintf("cloud%d", round), fmt.Sprintf("cloud%d-", round)
		op, err := s.Launch(t.Context(), admin, l)
		must(t, err)
		w, err := s.LockWorkspace(t.Context(), l.Provider)
		must(t, err)
		c := claim(t, w)
		list := names(op)
		slices.Reverse(list)
		var wg sync.WaitGroup
		check := func(what string, f func() error) {
			wg.Go(func() {
				if err := f(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			})
		}
		for _, step := range slices.Backward(op.Steps) {
			check("Created", func() error { return c.Created(t.Context(), []int64{step.VM}, times(1, time.Now())) })
		}
		check("Describe", func() error { return c.Describe(t.Context(), list, list, list) })
		check("GiveTokens", func() error {
			hashes := make([][]byte, vms)
			for i := range hashes {
				hashes[i] = fleet.HashToken(list[i])
			}
			return c.GiveTokens(t.Context(), ids(op), hashes)
		})
		check("Destroy", func() error {
			_, err := s.Destroy(t.Context(), admin, store.Destroy{Provider: l.Provider, All: true, Confirm: vms})
			return err
		})
		check("StopOperation", func() error { return s.StopOperation(t.Context(), op.ID) })
		wg.Wait()
		must(t, c.Finish(t.Context(), fleet.OperationCancelled, ""))
		w.Close()
	}
	if got := live(t, s); len(got) > 0 {
		t.Errorf("left are %v", got)
	}
	if n, err := store.CountRows(t.Context(), s, "vm_tokens"); err != nil || n != 0 {
		t.Errorf("%d tokens of destroyed VMs, %v", n, err)
	}
}

// A machine lives on for minutes after it was destroyed. Where machines need no
// credential, its reports do not bring it back into the pool.
func TestEnsureVM_Destroyed(t *testing.T) {
	t.Parallel()
	s := open(t)
	ready(t, s, 1)
	registerAs(t, s, "vm-1")
	destroyed(t, s, "lab-1")
	must(t, s.RemoveVM(t.Context(), admin, "vm-1"))
	wantKind(t, s.EnsureVM(t.Context(), admin, "lab-1", 100), fleet.NotFound)
	must(t, s.EnsureVM(t.Context(), admin, "vm-1", 100)) // by hand: its owner may bring it back
	if got := live(t, s); !slices.Equal(got, []string{"vm-1"}) {
		t.Errorf("the fleet is %v", got)
	}
}
