package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
	"lablink/internal/store"
	"lablink/internal/testkit"
)

func TestLaunch_NamesAreNeverUsedTwice(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, step := range []struct {
		before func()
		prefix string
		n      int
		want   []string
	}{
		{nil, "lab-", 3, []string{"lab-1", "lab-2", "lab-3"}},
		{func() { destroyed(t, s, "lab-3") }, "lab-", 1, []string{"lab-4"}},
		{func() { forget(t, s, "lab-4") }, "lab-", 1, []string{"lab-5"}},
		{func() { must(t, store.Exec(t.Context(), s, `DELETE FROM hostname_numbers`)) }, "lab-", 1, []string{"lab-6"}},
		// Both the number and the live rows are lost: the destroyed one is known.
		{func() {
			destroyed(t, s, "lab-6")
			forget(t, s, "lab-5")
			must(t, store.Exec(t.Context(), s, `DELETE FROM hostname_numbers`))
		}, "lab-", 2, []string{"lab-7", "lab-8"}},
		{nil, "room-", 1, []string{"room-1"}},
		{nil, "lab", 1, []string{"lab1"}},
		{func() { registerAs(t, s, "lab-40") }, "lab-", 2, []string{"lab-41", "lab-42"}},
		{func() { must(t, s.RemoveVM(t.Context(), admin, "lab-40")) }, "lab-", 1, []string{"lab-43"}},
		{func() { registerAs(t, s, "lab-0050") }, "lab-", 1, []string{"lab-51"}},
		{func() {
			for _, name := range []string{"lab-60a", "lab-x70", "lab-8-0", "xlab-90", "lab-1234567890123456"} {
				registerAs(t, s, name) // no numbers of ours
			}
		}, "lab-", 1, []string{"lab-52"}},
		{nil, "room-", 2, []string{"room-2", "room-3"}},
	} {
		if step.before != nil {
			step.before()
		}
		l := launchOf(step.n)
		l.Prefix = step.prefix
		op, err := s.Launch(t.Context(), admin, l)
		must(t, err)
		if got := names(op); !slices.Equal(got, step.want) {
			t.Fatalf("made %v, want %v", got, step.want)
		}
	}
}

func TestLaunch_NameTooLong(t *testing.T) {
	t.Parallel()
	s := open(t)
	l := launchOf(10)
	l.Prefix = strings.Repeat("a", 62)
	_, err := s.Launch(t.Context(), admin, l)
	wantKind(t, err, fleet.Invalid)
	for _, table := range []string{"vms", "operations", "hostname_numbers"} {
		if n, err := store.CountRows(t.Context(), s, table); err != nil || n != 0 {
			t.Errorf("%d rows in %s, %v", n, table, err)
		}
	}
	l.Count = 9
	_, err = s.Launch(t.Context(), admin, l)
	must(t, err)
}

func TestLaunch_ManyAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 5) // do not count
	launchAtOnce(t, s, "cloud", 50)
	for round := range 10 {
		// Without open operations, whose rows keep the launches in a row by themselves.
		must(t, store.Exec(t.Context(), s, `UPDATE operations SET state = 'failed', ended_at = now()`))
		launchAtOnce(t, s, fmt.Sprintf("small%d", round), 5)
	}
}

// launchAtOnce asks 20 times for 3 VMs.
func launchAtOnce(t *testing.T, s *store.Store, provider string, most int) {
	t.Helper()
	var mu sync.Mutex
	made := map[string]int64{}
	refused := 0
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for range 20 {
		wg.Go(func() {
			<-begin
			op, err := s.Launch(t.Context(), admin, store.Launch{Provider: provider, Prefix: provider + "-", InstanceType: "small", Count: 3, Most: most})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				refused++
				if fleet.KindOf(err) != fleet.Invalid {
					t.Error(err)
				}
				return
			}
			for _, step := range op.Steps {
				if other, taken := made[step.Hostname]; taken {
					t.Errorf("%s was made by operations %d and %d", step.Hostname, other, op.ID)
				}
				made[step.Hostname] = op.ID
			}
		})
	}
	close(begin)
	wg.Wait()
	want := most / 3
	if len(made) != 3*want || refused != 20-want {
		t.Fatalf("%d VMs and %d refusals, want %d and %d", len(made), refused, 3*want, 20-want)
	}
	for n := range 3 * want {
		if _, ok := made[fmt.Sprintf("%s-%d", provider, n+1)]; !ok {
			t.Errorf("number %d is missing: refused launches must not use any up", n+1)
		}
	}
}

func TestLaunch_RefusalSaysTheLimit(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, tc := range []struct {
		count, most int
		says        []string
	}{
		{4, 5, nil},
		{3, 5, []string{"3 more VMs", "make 7", "4 that there are", "at most 5", "limits.max_vms", "Ask for at most 1"}},
		{1, 4, []string{"1 more VM would", "make 5", "at most 4", "Ask for none", "destroy some first"}},
		{1, 2, []string{"make 5", "at most 2", "Ask for none"}}, // the limit was lowered
		{1, 5, nil},
	} {
		l := launchOf(tc.count)
		l.Most = tc.most
		_, err := s.Launch(t.Context(), admin, l)
		if tc.says == nil {
			must(t, err)
			continue
		}
		refusal, ok := errors.AsType[*fleet.Error](err)
		if !ok || refusal.Kind != fleet.Invalid || refusal.Field != "num_vms" {
			t.Fatalf("%d of %d: %v", tc.count, tc.most, err)
		}
		for _, text := range tc.says {
			if !strings.Contains(refusal.Message, text) {
				t.Errorf("%q does not say %q", refusal.Message, text)
			}
		}
	}
	// What is destroyed makes room at once.
	destroyed(t, s, "lab-2", "lab-3")
	l := launchOf(2)
	l.Most = 5
	_, err := s.Launch(t.Context(), admin, l)
	must(t, err)
}

// VMs that were only asked for are shown, and given to nobody.
func TestLaunch_Rows(t *testing.T) {
	t.Parallel()
	s := open(t)
	op := launch(t, s, 12)
	if op.Kind != fleet.KindLaunch || op.State != fleet.OperationPending || op.Provider != local || op.InstanceType != "small" || op.Attempt != 0 ||
		op.Stopping || op.Created.IsZero() || !op.Started.IsZero() || !op.Applied.IsZero() || !op.Ended.IsZero() || op.Phase != "" || op.Error != "" {
		t.Errorf("operation %+v", op)
	}
	if want := "lab-10"; op.Steps[9].Hostname != want || op.Count(fleet.StepWaiting) != 12 {
		t.Errorf("steps %+v", op.Steps)
	}
	for _, name := range names(op) {
		v := vm(t, s, name)
		if v.Status != fleet.StatusProvisioning || v.Creation != fleet.CreationPending || v.Provider != local || v.InstanceType != "small" || v.Free() || v.Seat != fleet.SeatNone {
			t.Errorf("%+v", v)
		}
	}
	history(t, s, vm(t, s, "lab-1").ID, fmt.Sprintf("launch asked for/operation %d/admin", op.ID))
	if n, err := s.FreeCount(t.Context()); err != nil || n != 0 {
		t.Errorf("%d are free, %v", n, err)
	}
	if _, err := s.Assign(t.Context(), request(1)); !errors.Is(err, store.ErrFull) {
		t.Errorf("Assign: %v", err)
	}
	if statuses, err := s.Statuses(t.Context()); err != nil || len(statuses) != 12 || statuses["lab-12"] != fleet.StatusProvisioning {
		t.Errorf("statuses %v, %v", statuses, err)
	}
	wantKind(t, s.RemoveVM(t.Context(), admin, "lab-1"), fleet.Conflict)
	again, err := s.Operation(t.Context(), op.ID)
	must(t, err)
	if fmt.Sprint(again) != fmt.Sprint(op) {
		t.Errorf("Launch returned\n%+v, the database holds\n%+v", op, again)
	}
	_, err = s.Operation(t.Context(), op.ID+1)
	wantKind(t, err, fleet.NotFound)
}

// A VM in place of another: all or nothing, the destruction first.
func TestReplace(t *testing.T) {
	t.Parallel()
	s := open(t)
	l := launchOf(2)
	l.InstanceType, l.Most = "large", 2
	op, err := s.Launch(t.Context(), admin, l)
	must(t, err)
	run(t, s, op)
	must(t, s.SetStatus(t.Context(), admin, "lab-1", fleet.StatusRunning))
	_, seen, err := s.HoldersOf(t.Context(), store.Destroy{Provider: local, Hostnames: []string{"lab-1"}})
	must(t, err)
	holder := request(1)
	_, err = s.Assign(t.Context(), holder)
	must(t, err)

	replace := func(hostname string, seen store.Holders, most int) (fleet.Operation, error) {
		l := launchOf(7)
		l.Most = most
		return s.Replace(t.Context(), admin, hostname, seen, l)
	}
	_, err = replace("nobody", nil, 2)
	wantKind(t, err, fleet.NotFound)
	_, err = replace("lab-1", seen, 2) // somebody got it meanwhile
	wantKind(t, err, fleet.Conflict)
	_, err = replace("lab-1", nil, 1)
	wantKind(t, err, fleet.Invalid)
	if v := vm(t, s, "lab-1"); v.Seat != fleet.SeatRequested {
		t.Fatalf("after the refusals: %+v", v)
	}
	if seat, err := s.SeatOf(t.Context(), holder.Browser); err != nil || seat.Hostname != "lab-1" {
		t.Fatalf("after the refusals the holder sees %+v, %v", seat, err)
	}
	op, err = replace("lab-1", nil, 2)
	must(t, err)
	if op.Kind != fleet.KindLaunch || op.InstanceType != "large" || !slices.Equal(names(op), []string{"lab-3"}) {
		t.Errorf("the launch is %+v", op)
	}
	before, err := s.Operation(t.Context(), op.ID-1)
	must(t, err)
	if before.Kind != fleet.KindDestroy || !slices.Equal(names(before), []string{"lab-1"}) {
		t.Errorf("the destruction is %+v", before)
	}
	if _, err := s.SeatOf(t.Context(), holder.Browser); !errors.Is(err, store.ErrNoSeat) {
		t.Errorf("the holder sees %v", err)
	}
}

// Somebody registers a machine under the next name in the same moment.
func TestLaunch_NameTakenMeanwhile(t *testing.T) {
	t.Parallel()
	s, _, url := two(t)
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), `BEGIN; INSERT INTO vms (hostname) VALUES ('lab-2')`)
	must(t, err)
	ended := make(chan error, 1)
	go func() {
		_, err := s.Launch(t.Context(), admin, launchOf(3))
		ended <- err
	}()
	testkit.Eventually(t, "the launch to wait", func() bool {
		waiting, err := store.CountRows(t.Context(), s, `pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
		return err != nil || waiting > 0 || len(ended) > 0
	})
	_, err = conn.Exec(t.Context(), `COMMIT`)
	must(t, err)
	wantKind(t, <-ended, fleet.Conflict)
	if got := live(t, s); !slices.Equal(got, []string{"lab-2"}) {
		t.Errorf("the fleet is %v", got)
	}
	if got := names(launch(t, s, 1)); !slices.Equal(got, []string{"lab-3"}) {
		t.Errorf("made %v", got)
	}
}
