package store_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

func openPoll(t *testing.T, s *store.Store, hostname string, replica, id int64) store.Poll {
	t.Helper()
	p := store.Poll{VM: vm(t, s, hostname).ID, Replica: replica, ID: id}
	_, err := s.OpenPoll(t.Context(), p)
	must(t, err)
	return p
}

// A replica that fell silent is not believed: its VMs do not wait. After an hour
// it is forgotten, and they were seen until its last sign of life.
func TestHeartbeat_DeadReplica(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 2)
	const dead, living = 1, 2
	for replica, name := range map[int64]string{dead: "vm-1", living: "vm-2"} {
		must(t, s.Heartbeat(t.Context(), replica))
		openPoll(t, s, name, replica, 1)
		if !vm(t, s, name).Waiting {
			t.Fatalf("%s does not wait", name)
		}
	}
	must(t, store.Exec(t.Context(), s, `UPDATE replicas SET heartbeat_at = now() - interval '16 seconds' WHERE id = 1`))
	if vm(t, s, "vm-1").Waiting || !vm(t, s, "vm-2").Waiting {
		t.Error("a VM waits at a replica that has been silent for 16 s, or the other one does not")
	}
	must(t, s.Heartbeat(t.Context(), living)) // too early to forget it
	must(t, s.Heartbeat(t.Context(), dead))   // it was only slow
	if !vm(t, s, "vm-1").Waiting {
		t.Error("a replica that came back is not believed")
	}

	must(t, store.Exec(t.Context(), s, `UPDATE replicas SET heartbeat_at = now() - interval '2 hours' WHERE id = 1;
		UPDATE polls SET since = now() - interval '3 hours'; UPDATE vms SET last_seen_at = now() - interval '3 hours'`))
	must(t, s.Heartbeat(t.Context(), living))
	must(t, s.Heartbeat(t.Context(), dead))
	v := vm(t, s, "vm-1")
	if v.Waiting {
		t.Error("the polls of a forgotten replica are still there")
	}
	if ago := time.Since(v.LastSeen); ago < 119*time.Minute || ago > 125*time.Minute {
		t.Errorf("last seen %v ago, want 2 hours: at the last heartbeat", ago)
	}
}

func TestRetireReplica(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 2)
	must(t, s.Heartbeat(t.Context(), 1))
	must(t, s.Heartbeat(t.Context(), 2))
	mine := openPoll(t, s, "vm-1", 1, 1)
	other := openPoll(t, s, "vm-2", 2, 1)
	must(t, s.RetireReplica(t.Context(), 1))
	if vm(t, s, "vm-1").Waiting || !vm(t, s, "vm-2").Waiting {
		t.Error("the end of one replica did not end its polls alone")
	}
	if _, err := s.CheckPoll(t.Context(), mine); !errors.Is(err, store.ErrSuperseded) {
		t.Errorf("a poll of the retired replica: %v", err)
	}
	if _, err := s.CheckPoll(t.Context(), other); err != nil {
		t.Errorf("a poll of the other replica: %v", err)
	}
	must(t, s.RetireReplica(t.Context(), 1)) // once more is harmless
}

// After a crash of PostgreSQL each replica writes its polls again; what is newer
// elsewhere stays, and what is removed does not come back.
func TestRestorePolls(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 3)
	must(t, s.RemoveVM(t.Context(), admin, "vm-3"))
	must(t, s.Heartbeat(t.Context(), 1))
	must(t, s.Heartbeat(t.Context(), 2))
	newer := openPoll(t, s, "vm-2", 2, 9)
	must(t, s.RestorePolls(t.Context(), 1, []string{"vm-1", "vm-2", "vm-3", "never-was"}, []int64{1, 2, 3, 4}))
	if !vm(t, s, "vm-1").Waiting {
		t.Error("the poll of vm-1 is not noted again")
	}
	if _, err := s.CheckPoll(t.Context(), store.Poll{VM: vm(t, s, "vm-1").ID, Replica: 1, ID: 1}); err != nil {
		t.Errorf("the poll of vm-1: %v", err)
	}
	if _, err := s.CheckPoll(t.Context(), newer); err != nil {
		t.Errorf("the newer poll of vm-2: %v", err)
	}
	must(t, s.RestorePolls(t.Context(), 1, nil, nil))
}

func TestTakeAttempt(t *testing.T) {
	t.Parallel()
	s := open(t)
	const limit = 5
	take := func(subject string) error { return s.TakeAttempt(t.Context(), subject, limit, 15*time.Minute) }
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 40 { // attempts at once are as few as one after the other
		wg.Go(func() {
			if err := take("pin:ada"); err == nil {
				passed.Add(1)
			} else if fleet.KindOf(err) != fleet.Limited {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if passed.Load() != limit {
		t.Errorf("%d attempts passed, want %d", passed.Load(), limit)
	}
	var limited *fleet.Error
	if err := take("pin:ada"); !errors.As(err, &limited) || limited.RetryAfter <= 14*time.Minute || limited.RetryAfter > 15*time.Minute {
		t.Errorf("refusal %+v", limited)
	}
	must(t, take("pin:bob")) // others are not concerned

	must(t, s.ForgetAttempts(t.Context(), "pin:ada"))
	must(t, take("pin:ada"))
	for range limit {
		_ = take("pin:ada") // refused at the end, which was tested
	}
	must(t, store.Exec(t.Context(), s, `UPDATE attempts SET since = since - interval '16 minutes'`))
	must(t, take("pin:ada"))
}

func TestSweep(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 2)
	held, ended := request(1), request(2)
	_, err := s.Assign(t.Context(), held)
	must(t, err)
	seat, err := s.Assign(t.Context(), ended)
	must(t, err)
	must(t, s.Release(t.Context(), admin, seat.Hostname))
	must(t, s.TakeAttempt(t.Context(), "old", 1, time.Hour))
	must(t, store.Exec(t.Context(), s, `UPDATE seat_sessions SET created_at = now() - interval '91 days'; UPDATE attempts SET since = now() - interval '25 hours'`))
	must(t, s.TakeAttempt(t.Context(), "new", 1, time.Hour))
	must(t, s.Sweep(t.Context()))
	if _, err := s.SeatOf(t.Context(), held.Browser); err != nil {
		t.Errorf("the browser of a seat that is held: %v", err)
	}
	if _, err := s.SeatOf(t.Context(), ended.Browser); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("the browser of a seat that ended 91 days ago: %v", err)
	}
	wantKind(t, s.TakeAttempt(t.Context(), "new", 1, time.Hour), fleet.Limited)
	if n, err := store.CountRows(t.Context(), s, "attempts"); err != nil || n != 1 {
		t.Errorf("%d subjects are kept, %v; want the new one", n, err)
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	s := open(t)
	names := register(t, s, 8)
	must(t, s.Heartbeat(t.Context(), 1))
	openPoll(t, s, names[0], 1, 1)
	must(t, s.SetStatus(t.Context(), admin, names[1], fleet.StatusError))
	must(t, s.SetHealth(t.Context(), admin, names[2], fleet.Unhealthy))
	must(t, store.Exec(t.Context(), s, `UPDATE vms SET last_seen_at = now() - interval '4 minutes' WHERE hostname = 'vm-4'`))
	must(t, s.RemoveVM(t.Context(), admin, names[7]))
	seat, err := s.Assign(t.Context(), request(1)) // the one that waits
	must(t, err)
	if seat.Hostname != names[0] {
		t.Fatalf("got %s", seat.Hostname)
	}
	c, err := s.Counts(t.Context())
	must(t, err)
	if c.Total != 7 || c.Free != 4 || c.Waiting != 1 || c.Silent != 1 || c.Trouble != 2 {
		t.Errorf("%+v", c)
	}
	if c.Seats[fleet.SeatRequested] != 1 || c.Seats[fleet.SeatNone] != 6 || len(c.Seats) != 2 {
		t.Errorf("seats %v", c.Seats)
	}
	if free, err := s.FreeCount(t.Context()); err != nil || free != c.Free {
		t.Errorf("FreeCount = %d, %v; Counts says %d", free, err, c.Free)
	}
}

// Reports of VMs that do not exist, or are removed, are no success.
func TestReports_UnknownVM(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 1)
	must(t, s.RemoveVM(t.Context(), admin, "vm-1"))
	for _, name := range []string{"vm-1", "never-was", ""} {
		wantKind(t, s.SetStatus(t.Context(), admin, name, fleet.StatusRunning), fleet.NotFound)
		wantKind(t, s.SetHealth(t.Context(), admin, name, fleet.Healthy), fleet.NotFound)
		wantKind(t, s.SetInUse(t.Context(), name, true), fleet.NotFound)
		wantKind(t, s.SetStartup(t.Context(), name, store.Phase{}, store.Phase{}), fleet.NotFound)
		wantKind(t, s.Acknowledge(t.Context(), admin, name, 1, fleet.EventConnect, ""), fleet.NotFound)
		wantKind(t, s.AddToken(t.Context(), admin, name, fleet.HashToken(name)), fleet.NotFound)
		wantKind(t, s.RemoveVM(t.Context(), admin, name), fleet.NotFound)
		_, err := s.MachineByHostname(t.Context(), name)
		wantKind(t, err, fleet.NotFound)
	}
	_, err := s.MachineByToken(t.Context(), fleet.HashToken("token of vm-1"))
	wantKind(t, err, fleet.Unauthenticated)
}

// Many VMs that report themselves for the first time in the same moment make one
// row each, and no more than the limit.
func TestEnsureVM_AtOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	const most = 10
	var refused atomic.Int64
	var wg sync.WaitGroup
	for n := range 45 {
		wg.Go(func() {
			err := s.EnsureVM(t.Context(), fleet.Actor{Kind: "vm"}, fmt.Sprintf("vm-%d", n%15), most)
			if fleet.KindOf(err) == fleet.Invalid {
				refused.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	statuses, err := s.Statuses(t.Context())
	must(t, err)
	if len(statuses) != most || refused.Load() != 15 {
		t.Errorf("%d VMs and %d refusals, want %d and 15", len(statuses), refused.Load(), most)
	}
}
