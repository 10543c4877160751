package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

func TestAssign_HundredsAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	const vms, people = 150, 300
	register(t, s, vms)

	var mu sync.Mutex
	holders := map[string]int{}
	full := 0
	var wg sync.WaitGroup
	for n := range people {
		wg.Go(func() {
			seat, err := s.Assign(t.Context(), request(n))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, store.ErrFull):
				full++
			case err != nil:
				t.Errorf("participant %d: %v", n, err)
			case holders[seat.Hostname] != 0:
				t.Errorf("%s was given to participants %d and %d", seat.Hostname, holders[seat.Hostname]-1, n)
			default:
				holders[seat.Hostname] = n + 1
			}
		})
	}
	wg.Wait()
	if len(holders) != vms || full != people-vms {
		t.Fatalf("%d VMs were given and %d participants refused, want %d and %d", len(holders), full, vms, people-vms)
	}
	for hostname, n := range holders {
		if v := vm(t, s, hostname); v.Email != fmt.Sprintf("p%d@example.org", n-1) {
			t.Errorf("%s: the participant was told that it is theirs, the row says %s", hostname, v.Email)
		}
	}
}

func TestAssign_OneEmailAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 20)
	var mu sync.Mutex
	got, refused := 0, 0
	var wg sync.WaitGroup
	for n := range 20 {
		r := request(n)
		r.Email = "same@example.org"
		if n%2 == 0 {
			r.Email = "SAME@example.org"
		}
		wg.Go(func() {
			_, err := s.Assign(t.Context(), r)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				got++
			case errors.Is(err, store.ErrEmailSeated):
				refused++
			default:
				t.Errorf("participant %d: %v", n, err)
			}
		})
	}
	wg.Wait()
	if got != 1 || refused != 19 {
		t.Fatalf("%d seats and %d refusals, want 1 and 19", got, refused)
	}
	if n, err := s.FreeCount(t.Context()); err != nil || n != 19 {
		t.Fatalf("FreeCount = %d, %v; want 19: a refused request must not cost a VM", n, err)
	}
}

func TestAssign_OneCodeAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 10)
	var mu sync.Mutex
	got := 0
	var wg sync.WaitGroup
	for n := range 10 {
		r := request(n)
		r.Command = request(0).Command
		wg.Go(func() {
			_, err := s.Assign(t.Context(), r)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				got++
			} else if !errors.Is(err, store.ErrCodeUsed) {
				t.Errorf("participant %d: %v", n, err)
			}
		})
	}
	wg.Wait()
	if got != 1 {
		t.Fatalf("one code gave %d seats", got)
	}
}

func TestAssign_Picks(t *testing.T) {
	t.Parallel()
	s := open(t)
	names := register(t, s, 5)
	must(t, s.SetHealth(t.Context(), admin, names[0], fleet.Unhealthy))
	must(t, s.SetStatus(t.Context(), admin, names[1], fleet.StatusRebooting))
	const replica, dead = 7, 8
	must(t, s.Heartbeat(t.Context(), replica))
	for name, where := range map[string]int64{names[3]: replica, names[2]: dead} {
		if _, err := s.OpenPoll(t.Context(), store.Poll{VM: vm(t, s, name).ID, Replica: where, ID: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.FreeCount(t.Context()); err != nil || n != 3 {
		t.Fatalf("FreeCount = %d, %v; want 3", n, err)
	}
	// The one that waits at a live replica first; then the others, which may be between two polls.
	want := map[int]string{0: names[3]}
	seen := map[string]bool{}
	for n := range 3 {
		seat, err := s.Assign(t.Context(), request(n))
		must(t, err)
		if want[n] != "" && seat.Hostname != want[n] {
			t.Errorf("pick %d is %s, want %s", n, seat.Hostname, want[n])
		}
		if seat.Waiting != (n == 0) {
			t.Errorf("pick %d: Waiting = %v", n, seat.Waiting)
		}
		seen[seat.Hostname] = true
	}
	if seen[names[0]] || seen[names[1]] || len(seen) != 3 {
		t.Errorf("picked %v, which holds an unhealthy or a rebooting VM, or one twice", seen)
	}
	if _, err := s.Assign(t.Context(), request(9)); !errors.Is(err, store.ErrFull) {
		t.Errorf("error = %v, want ErrFull", err)
	}
}

// TestFree compares the one definition in Go with the one in SQL, over every
// combination that the schema allows.
func TestFree(t *testing.T) {
	t.Parallel()
	s := open(t)
	name := register(t, s, 1)[0]
	for _, status := range fleet.Reportable {
		for _, health := range []fleet.Health{fleet.Healthy, fleet.Unhealthy, fleet.NotApplicable} {
			must(t, s.SetStatus(t.Context(), admin, name, status))
			must(t, s.SetHealth(t.Context(), admin, name, health))
			n, err := s.FreeCount(t.Context())
			must(t, err)
			if free := vm(t, s, name).Free(); free != (n == 1) {
				t.Errorf("status %s, health %s: Free() = %v, SQL counts %d", status, health, free, n)
			}
		}
	}
	must(t, s.SetStatus(t.Context(), admin, name, fleet.StatusRunning))
	must(t, s.SetHealth(t.Context(), admin, name, fleet.Healthy))
	if _, err := s.Assign(t.Context(), request(1)); err != nil {
		t.Fatal(err)
	}
	if n, err := s.FreeCount(t.Context()); err != nil || n != 0 || vm(t, s, name).Free() {
		t.Errorf("a held VM: FreeCount = %d, %v; Free() = %v", n, err, vm(t, s, name).Free())
	}
}

func TestRelease(t *testing.T) {
	t.Parallel()
	s := open(t)
	name := register(t, s, 1)[0]
	r := request(1)
	wantKind(t, s.Release(t.Context(), admin, name), fleet.Conflict)
	seat, err := s.Assign(t.Context(), r)
	must(t, err)
	id := vm(t, s, name).ID
	poll := store.Poll{VM: id, Replica: 1, ID: 1}
	code, err := s.OpenPoll(t.Context(), poll)
	must(t, err)

	must(t, s.Release(t.Context(), admin, name))
	if _, err := s.SeatOf(t.Context(), r.Browser); !errors.Is(err, store.ErrNoSeat) {
		t.Errorf("SeatOf after the release: %v, want ErrNoSeat", err)
	}
	if err := s.Renew(t.Context(), admin, seat.ID, request(2).Command); !errors.Is(err, store.ErrNoSeat) {
		t.Errorf("Renew after the release: %v, want ErrNoSeat", err)
	}
	// Out of the pool until the agent confirms; the participant may have another one meanwhile.
	if _, err := s.Assign(t.Context(), request(3)); !errors.Is(err, store.ErrFull) {
		t.Errorf("a VM that hangs on the last Google account was given away: %v", err)
	}
	wantKind(t, s.Acknowledge(t.Context(), admin, name, code.ID, fleet.EventConnect, ""), fleet.Conflict)
	clean, err := s.CheckPoll(t.Context(), poll)
	must(t, err)
	if clean.State != fleet.SeatReleasing || clean.Command != "" || clean.PIN != "" {
		t.Fatalf("delivery after the release: %+v", clean)
	}
	must(t, s.Acknowledge(t.Context(), admin, name, clean.ID, fleet.EventFail, "the desktop does not stop"))
	if v := vm(t, s, name); v.Seat != fleet.SeatUnclean || v.Reason == "" || v.Free() {
		t.Fatalf("after a failed clean-up: %+v", v)
	}
	must(t, s.Release(t.Context(), admin, name)) // once more
	again, err := s.CheckPoll(t.Context(), poll)
	must(t, err)
	wantKind(t, s.Acknowledge(t.Context(), admin, name, clean.ID, fleet.EventClean, ""), fleet.Conflict)
	must(t, s.Acknowledge(t.Context(), admin, name, again.ID, fleet.EventClean, ""))
	must(t, s.Acknowledge(t.Context(), admin, name, again.ID, fleet.EventClean, "")) // a repeated report
	if v := vm(t, s, name); !v.Free() {
		t.Fatalf("after the clean-up: %+v", v)
	}
	next, err := s.Assign(t.Context(), request(4))
	must(t, err)
	if next.PIN == seat.PIN && next.ID == seat.ID {
		t.Error("the next participant got the last one's seat")
	}
}

func TestRenew(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 2)
	r := request(1)
	seat, err := s.Assign(t.Context(), r)
	must(t, err)
	name := seat.Hostname
	poll := store.Poll{VM: vm(t, s, name).ID, Replica: 1, ID: 1}
	first, err := s.OpenPoll(t.Context(), poll)
	must(t, err)

	must(t, s.Renew(t.Context(), admin, seat.ID, r.Command)) // a double click
	same, err := s.CheckPoll(t.Context(), poll)
	must(t, err)
	if same.ID != first.ID {
		t.Errorf("the same code became delivery %d, was %d", same.ID, first.ID)
	}
	must(t, s.Acknowledge(t.Context(), admin, name, first.ID, fleet.EventFail, "Google refused the code"))
	if got, err := s.SeatOf(t.Context(), r.Browser); err != nil || got.State != fleet.SeatFailed || got.Reason != "Google refused the code" {
		t.Fatalf("seat after a failure: %+v, %v", got, err)
	}
	if err := s.Renew(t.Context(), admin, seat.ID, r.Command); !errors.Is(err, store.ErrCodeUsed) {
		t.Errorf("the failed code again: %v, want ErrCodeUsed", err)
	}
	_, err = s.Assign(t.Context(), request(2))
	must(t, err)
	if err := s.Renew(t.Context(), admin, seat.ID, request(2).Command); !errors.Is(err, store.ErrCodeUsed) {
		t.Errorf("somebody else's code: %v, want ErrCodeUsed", err)
	}
	must(t, s.Renew(t.Context(), admin, seat.ID, request(3).Command))
	fresh, err := s.CheckPoll(t.Context(), poll)
	must(t, err)
	if fresh == nil || fresh.ID == first.ID || fresh.PIN != seat.PIN {
		t.Fatalf("delivery of the fresh code: %+v; the PIN stays %s", fresh, seat.PIN)
	}
	wantKind(t, s.Acknowledge(t.Context(), admin, name, first.ID, fleet.EventConnect, ""), fleet.Conflict)
	must(t, s.Acknowledge(t.Context(), admin, name, fresh.ID, fleet.EventConnect, ""))
	must(t, s.Acknowledge(t.Context(), admin, name, fresh.ID, fleet.EventConnect, ""))
	if d, err := s.CheckPoll(t.Context(), poll); err != nil || d != nil {
		t.Errorf("after the acknowledgement there is still %+v, %v", d, err)
	}
}

func TestRecover(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 1)
	r := request(1)
	seat, err := s.Assign(t.Context(), r)
	must(t, err)
	other := fleet.HashToken("another device")
	wrong := "000000"
	if seat.PIN == wrong {
		wrong = "000001"
	}
	wantKind(t, s.Recover(t.Context(), admin, r.Email, wrong, other), fleet.Invalid)
	if _, err := s.SeatOf(t.Context(), other); fleet.KindOf(err) != fleet.NotFound {
		t.Fatalf("a wrong PIN opened the seat: %v", err)
	}
	must(t, s.Recover(t.Context(), admin, " P1@EXAMPLE.ORG ", seat.PIN, other))
	for _, browser := range [][]byte{r.Browser, other} {
		if got, err := s.SeatOf(t.Context(), browser); err != nil || got.ID != seat.ID {
			t.Errorf("SeatOf = %+v, %v", got, err)
		}
	}
	must(t, s.ForgetBrowser(t.Context(), other))
	if _, err := s.SeatOf(t.Context(), other); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("a forgotten device still sees the seat: %v", err)
	}
}

func TestPoll_NewestWins(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 1)
	id := vm(t, s, "vm-1").ID
	older, newer := store.Poll{VM: id, Replica: 1, ID: 5}, store.Poll{VM: id, Replica: 2, ID: 1}
	for _, p := range []store.Poll{older, newer} {
		if d, err := s.OpenPoll(t.Context(), p); err != nil || d != nil {
			t.Fatalf("OpenPoll = %v, %v", d, err)
		}
	}
	if _, err := s.CheckPoll(t.Context(), older); !errors.Is(err, store.ErrSuperseded) {
		t.Errorf("the older poll: %v, want ErrSuperseded", err)
	}
	must(t, s.ClosePoll(t.Context(), older)) // must not end the newer one
	_, err := s.Assign(t.Context(), request(1))
	must(t, err)
	if d, err := s.CheckPoll(t.Context(), newer); err != nil || d == nil {
		t.Errorf("the newer poll: %v, %v", d, err)
	}
}

func TestEvents_AppendOnly(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 1)
	_, err := s.Assign(t.Context(), request(1))
	must(t, err)
	events, err := s.Events(t.Context(), vm(t, s, "vm-1").ID, 10)
	must(t, err)
	var what []string
	for _, e := range events {
		what = append(what, e.What)
		if e.At.IsZero() || e.Actor.Kind == "" {
			t.Errorf("incomplete line %+v", e)
		}
	}
	if fmt.Sprint(what) != "[seat requested status running registered]" {
		t.Errorf("history = %v", what)
	}
	if err := store.Tamper(t.Context(), s); err == nil {
		t.Error("the history could be changed")
	}
}

// One browser that asks twice in the same instant, under two addresses, gets one
// seat; and may ask anew when that has ended or is forgotten.
func TestAssign_OneBrowserAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 10)
	browser := fleet.HashToken("one browser")
	var mu sync.Mutex
	var given []string
	var wg sync.WaitGroup
	for n := range 10 {
		r := request(n)
		r.Browser = browser
		wg.Go(func() {
			seat, err := s.Assign(t.Context(), r)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				given = append(given, seat.Hostname)
			} else if !errors.Is(err, store.ErrBrowserSeated) {
				t.Errorf("request %d: %v", n, err)
			}
		})
	}
	wg.Wait()
	if len(given) != 1 {
		t.Fatalf("one browser was given %v", given)
	}
	must(t, s.Release(t.Context(), admin, given[0]))
	r := request(20)
	r.Browser = browser
	if _, err := s.Assign(t.Context(), r); err != nil {
		t.Fatalf("after the release: %v", err)
	}
	must(t, s.ForgetBrowser(t.Context(), browser))
	r = request(21)
	r.Browser = browser
	if _, err := s.Assign(t.Context(), r); err != nil {
		t.Fatalf("after the browser forgot: %v", err)
	}
}
