package store_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

func TestDestroy_All(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 2)
	ready(t, s, 2)
	launch(t, s, 1)
	other := launchOf(1)
	other.Provider, other.Prefix = "aws", "aws-"
	_, err := s.Launch(t.Context(), admin, other)
	must(t, err)
	all := func(confirm int) (fleet.Operation, error) {
		return s.Destroy(t.Context(), admin, store.Destroy{Provider: local, All: true, Confirm: confirm})
	}
	for _, wrong := range []int{0, 2, 4, 5, 6, -3} {
		_, err := all(wrong)
		wantKind(t, err, fleet.Invalid)
		if e, ok := errors.AsType[*fleet.Error](err); !ok || e.Field != "confirm" || !strings.Contains(e.Message, "3 VMs") {
			t.Errorf("confirming %d: %v", wrong, err)
		}
	}
	if got := live(t, s); len(got) != 6 {
		t.Fatalf("after the refusals there are %v", got)
	}
	op, err := all(3)
	must(t, err)
	if op.Kind != fleet.KindDestroy || op.State != fleet.OperationPending || !slices.Equal(names(op), []string{"lab-1", "lab-2", "lab-3"}) {
		t.Errorf("operation %+v", op)
	}
	// Registered machines and other providers' VMs stay.
	if got := live(t, s); !slices.Equal(got, []string{"aws-1", "vm-1", "vm-2"}) {
		t.Errorf("left are %v", got)
	}
	_, err = all(0)
	wantKind(t, err, fleet.Conflict)
}

// A destruction is all or nothing.
func TestDestroy_Refusals(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 1)
	ready(t, s, 3)
	destroyed(t, s, "lab-3")
	seat, err := s.Assign(t.Context(), request(1))
	must(t, err)
	before := dump(t, s)
	long := strings.Repeat("a", 500)
	for name, tc := range map[string]struct {
		hostnames []string
		kind      fleet.Kind
		says      []string
	}{
		"unknown":             {[]string{"lab-1", "nobody", "lab-2", "nothing"}, fleet.NotFound, []string{"nobody, nothing", "nothing was destroyed"}},
		"destroyed already":   {[]string{"lab-1", "lab-3"}, fleet.NotFound, []string{"lab-3"}},
		"registered":          {[]string{"lab-1", "vm-1"}, fleet.Conflict, []string{"vm-1: registered by hand", "nothing was destroyed"}},
		"none":                {nil, fleet.Conflict, []string{"no VM"}},
		"an empty name":       {[]string{""}, fleet.NotFound, nil},
		"a very long name":    {[]string{long}, fleet.NotFound, []string{"aaa..."}},
		"both kinds of wrong": {[]string{"vm-1", "nobody"}, fleet.NotFound, []string{"nobody"}},
	} {
		_, err := destroy(t, s, tc.hostnames...)
		if fleet.KindOf(err) != tc.kind {
			t.Errorf("%s: %v", name, err)
		}
		for _, text := range tc.says {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %q does not say %q", name, err, text)
			}
		}
		if strings.Contains(fmt.Sprint(err), long) {
			t.Errorf("%s: the whole text comes back", name)
		}
	}
	if after := dump(t, s); !maps.Equal(before, after) {
		t.Errorf("a refused destruction changed something: %s", changes(before, after))
	}
	if v := vm(t, s, seat.Hostname); v.Email == "" {
		t.Errorf("the seat is gone: %+v", v)
	}
	// A name twice is one VM.
	if op := destroyed(t, s, "lab-1", "lab-1"); len(op.Steps) != 1 {
		t.Errorf("operation %+v", op)
	}
}

// The seat ends at once, with all that must not be read by anybody any more.
func TestDestroy_Seat(t *testing.T) {
	t.Parallel()
	s := open(t)
	ready(t, s, 2)
	holder := request(1)
	seat, err := s.Assign(t.Context(), holder)
	must(t, err)
	name := seat.Hostname
	id := vm(t, s, name).ID
	token := fleet.HashToken("a token")
	must(t, s.AddToken(t.Context(), admin, name, token))
	poll := store.Poll{VM: id, Replica: 1, ID: 1}
	d, err := s.OpenPoll(t.Context(), poll)
	must(t, err)
	must(t, s.Delivered(t.Context(), id, d.ID))
	op := destroyed(t, s, name)

	if _, err := s.SeatOf(t.Context(), holder.Browser); !errors.Is(err, store.ErrNoSeat) {
		t.Errorf("the holder sees %v, want ErrNoSeat", err)
	}
	if _, err := s.CheckPoll(t.Context(), poll); !errors.Is(err, store.ErrGone) {
		t.Errorf("its poll: %v, want ErrGone", err)
	}
	if _, err := s.OpenPoll(t.Context(), store.Poll{VM: id, Replica: 1, ID: 2}); !errors.Is(err, store.ErrGone) {
		t.Errorf("a new poll: %v, want ErrGone", err)
	}
	_, err = s.MachineByToken(t.Context(), token)
	wantKind(t, err, fleet.Unauthenticated)
	for what, err := range map[string]error{
		"status": s.SetStatus(t.Context(), admin, name, fleet.StatusRunning), "health": s.SetHealth(t.Context(), admin, name, fleet.Healthy),
		"result": s.Acknowledge(t.Context(), admin, name, d.ID, fleet.EventConnect, ""), "token": s.AddToken(t.Context(), admin, name, token),
		"release": s.Release(t.Context(), admin, name), "clean": s.ConfirmClean(t.Context(), admin, name),
		"remove": s.RemoveVM(t.Context(), admin, name),
	} {
		if fleet.KindOf(err) != fleet.NotFound {
			t.Errorf("%s of a destroyed VM: %v", what, err)
		}
	}
	if err := s.Renew(t.Context(), admin, seat.ID, request(2).Command); !errors.Is(err, store.ErrNoSeat) {
		t.Errorf("a fresh code: %v", err)
	}
	must(t, s.Delivered(t.Context(), id, d.ID)) // late, and in vain
	rows := dump(t, s)
	for _, secret := range []string{holder.Command.Code, seat.PIN} {
		if strings.Contains(rows["vms"], secret) {
			t.Errorf("the row still holds %q", secret)
		}
	}
	if rows["vm_tokens"] != "" {
		t.Errorf("tokens are left: %s", rows["vm_tokens"])
	}
	vms, err := s.OperationVMs(t.Context(), op.ID)
	must(t, err)
	if v := vms[name]; v.Status != fleet.StatusDestroyed || v.Seat != fleet.SeatNone || v.Email != "" || v.Reason != "" || !v.SeatSince.IsZero() {
		t.Errorf("the row is %+v", v)
	}
	history(t, s, id, "launch asked for/operation 1/admin", "created//system", "status running/was provisioning/vm",
		"seat requested/"+holder.Email+"/participant", "new token//admin", "code delivered//system",
		"seat ended/was "+holder.Email+"/admin", fmt.Sprintf("destroy asked for/operation %d/admin", op.ID))
	// The person and the browser may ask anew.
	again := request(3)
	again.Email, again.Browser = holder.Email, holder.Browser
	if got, err := s.Assign(t.Context(), again); err != nil || got.Hostname == name {
		t.Errorf("asking anew: %+v, %v", got, err)
	}
}

// Who confirmed a destruction has seen who holds what: if that is different by
// now, nothing is destroyed.
func TestDestroy_Seen(t *testing.T) {
	t.Parallel()
	s := open(t)
	ready(t, s, 3)
	seen := func(hostnames ...string) store.Holders {
		vms, seen, err := s.HoldersOf(t.Context(), store.Destroy{Provider: local, Hostnames: hostnames, All: len(hostnames) == 0})
		must(t, err)
		if len(vms) != len(seen) {
			t.Errorf("%d VMs, seen %v", len(vms), seen)
		}
		again, err := store.ParseHolders(seen.String())
		must(t, err)
		if !maps.Equal(again, seen) {
			t.Errorf("%v became %q and then %v", seen, seen.String(), again)
		}
		return again
	}
	before := seen()
	if !maps.Equal(before, store.Holders{"lab-1": 0, "lab-2": 0, "lab-3": 0}) {
		t.Fatalf("seen %v", before)
	}
	first, err := s.Assign(t.Context(), request(1))
	must(t, err)
	all := store.Destroy{Provider: local, All: true, Confirm: 3}
	refused := func(d store.Destroy) {
		t.Helper()
		rows := dump(t, s)
		_, err := s.Destroy(t.Context(), admin, d)
		wantKind(t, err, fleet.Conflict)
		if after := dump(t, s); !maps.Equal(rows, after) {
			t.Errorf("it changed %s", changes(rows, after))
		}
	}
	with := func(d store.Destroy, seen store.Holders) store.Destroy {
		d.Seen = seen
		return d
	}
	one := store.Destroy{Provider: local, Hostnames: []string{first.Hostname}}
	refused(with(all, before))
	refused(with(one, store.Holders{first.Hostname: 0}))
	now := seen()
	if now[first.Hostname] != first.ID {
		t.Errorf("seen %v, the seat is %d", now, first.ID)
	}
	// Somebody else has it, or nobody.
	must(t, s.Release(t.Context(), admin, first.Hostname))
	refused(with(all, now))
	must(t, s.ConfirmClean(t.Context(), admin, first.Hostname))
	refused(with(one, store.Holders{first.Hostname: first.ID}))
	// The set is another one.
	for _, wrong := range []store.Holders{{}, {"lab-1": 0}, {"lab-1": 0, "lab-2": 0, "lab-3": 0, "lab-4": 0}, {"lab-1": 0, "lab-2": 0, "lab-4": 0}} {
		refused(with(all, wrong))
	}
	must(t, s.SetStatus(t.Context(), admin, "lab-2", fleet.StatusError)) // not of concern
	_, err = s.Destroy(t.Context(), admin, with(all, before))
	must(t, err)
	if got := seen(); len(got) != 0 {
		t.Errorf("seen of an empty fleet: %v", got)
	}
}

func TestParseHolders(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"lab-1", "lab-1:", "lab-1:x", ":", "lab-1:1 lab-2", "lab-1:99999999999999999999"} {
		_, err := store.ParseHolders(bad)
		wantKind(t, err, fleet.Invalid)
	}
	for in, want := range map[string]store.Holders{"": {}, " ": {}, "lab-1:0  lab-2:7\n": {"lab-1": 0, "lab-2": 7}} {
		if got, err := store.ParseHolders(in); err != nil || !maps.Equal(got, want) {
			t.Errorf("%q is %v, %v", in, got, err)
		}
	}
}
