package store_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

func keep(t *testing.T, s *store.Store, hostname, hash string, bytes int, want bool) {
	t.Helper()
	kept, err := s.KeepLogs(t.Context(), hostname, []byte(hash), make([]byte, bytes))
	must(t, err)
	if kept != want {
		t.Errorf("%s of %s, %d bytes: kept %v, want %v", hash, hostname, bytes, kept, want)
	}
}

// What strangers make us keep is bounded, of each hostname and of all.
func TestStore_LogsKeptAsideAreBounded(t *testing.T) {
	t.Parallel()
	s := open(t)
	keep(t, s, "vm-1", "a", 9<<20, true)
	keep(t, s, "vm-1", "a", 9<<20, true) // the same again is kept already
	keep(t, s, "vm-1", "b", 9<<20, false)
	keep(t, s, "vm-1", "c", 1<<20, true)
	for n := range 3 {
		keep(t, s, fmt.Sprintf("other-%d", n), "a", 16<<20, true)
	}
	keep(t, s, "other-3", "a", 16<<20, false)
	if n, err := store.CountRows(t.Context(), s, "log_waiting"); err != nil || n != 5 {
		t.Errorf("%d batches, %v", n, err)
	}
	must(t, store.Exec(t.Context(), s, `UPDATE log_waiting SET arrived = arrived - interval '1 hour' WHERE hostname LIKE 'other%'`))
	expired, err := s.ExpireLogs(t.Context(), 30*time.Minute)
	must(t, err)
	if expired != 3 {
		t.Errorf("%d batches expired", expired)
	}
	keep(t, s, "other-3", "a", 16<<20, true)
}

// However many replicas take up what was kept, it is stored once.
func TestStore_LogsAreAdoptedOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	for n := range 20 {
		keep(t, s, "vm-1", fmt.Sprint(n), 10, true)
	}
	if awaited, err := s.LogsAwaited(t.Context()); err != nil || len(awaited) != 0 {
		t.Errorf("%v, %v: nobody has that name yet", awaited, err)
	}
	register(t, s, 1)
	awaited, err := s.LogsAwaited(t.Context())
	must(t, err)
	if len(awaited) != 1 || !awaited[0].Waiting {
		t.Fatalf("awaited: %v", awaited)
	}
	kept, err := s.KeptLogs(t.Context(), "vm-1")
	must(t, err)
	var stored atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, k := range kept {
				n, err := s.AdoptLogs(t.Context(), awaited[0].ID, k.ID, store.NewLogLines{Lines: []store.NewLogLine{{Source: "boot", Text: fmt.Sprint(k.ID)}}})
				if err != nil {
					t.Error(err)
				}
				stored.Add(int64(n))
			}
		})
	}
	wg.Wait()
	lines, err := s.LogLines(t.Context(), awaited[0].ID, store.LogQuery{})
	must(t, err)
	if stored.Load() != 20 || len(lines) != 20 {
		t.Errorf("%d were stored, there are %d", stored.Load(), len(lines))
	}
	if left, err := s.KeptLogs(t.Context(), "vm-1"); err != nil || len(left) != 0 {
		t.Errorf("%d are left, %v", len(left), err)
	}
}

// A machine's last words arrive when it has gone.
func TestStore_LogTarget(t *testing.T) {
	t.Parallel()
	s := open(t)
	name := register(t, s, 1)[0]
	first := vm(t, s, name)
	seat, err := s.Assign(t.Context(), request(1))
	must(t, err)
	target, err := s.LogTargetByToken(t.Context(), fleet.HashToken("token of vm-1"))
	must(t, err)
	if target.ID != first.ID || len(target.Secrets) != 2 || target.Secrets[0] != seat.PIN || target.Secrets[1] != "4/0code-1" {
		t.Errorf("the target is %+v", target)
	}
	_, err = s.LogTargetByToken(t.Context(), fleet.HashToken("another"))
	wantKind(t, err, fleet.Unauthenticated)
	_, err = s.LogTarget(t.Context(), "vm-2", time.Hour)
	wantKind(t, err, fleet.NotFound)

	must(t, store.Exec(t.Context(), s, `UPDATE vms SET status = 'destroyed', destroyed_at = now() - interval '10 minutes', seat = 'none',
		useremail = NULL, pin = NULL, crdcommand = NULL, seat_id = NULL, seat_since = NULL, delivery = NULL`))
	target, err = s.LogTarget(t.Context(), name, time.Hour)
	must(t, err)
	if target.ID != first.ID {
		t.Errorf("the target is %+v", target)
	}
	_, err = s.LogTarget(t.Context(), name, time.Minute)
	wantKind(t, err, fleet.NotFound)
	must(t, s.RegisterVMs(t.Context(), admin, []string{name}, [][]byte{fleet.HashToken("new")}, 10))
	target, err = s.LogTarget(t.Context(), name, time.Hour)
	must(t, err)
	if target.ID == first.ID {
		t.Error("the lines of the new machine went to the old one's log")
	}
}
