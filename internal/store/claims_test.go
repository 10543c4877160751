package store_test

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
	"lablink/internal/store"
	"lablink/internal/testkit"
)

func TestLockWorkspace(t *testing.T) {
	t.Parallel()
	a, b, url := two(t)
	take := func(s *store.Store, provider string) *store.Workspace {
		t.Helper()
		w, err := s.LockWorkspace(t.Context(), provider)
		must(t, err)
		if w != nil {
			t.Cleanup(w.Close)
		}
		return w
	}
	first := take(a, local)
	if first == nil || take(b, local) != nil || take(a, local) != nil {
		t.Fatal("the workspace is not exclusive")
	}
	other := take(b, "aws")
	if other == nil {
		t.Fatal("another provider's workspace is taken")
	}
	must(t, first.Check(t.Context()))
	for range 20 { // at once, not when PostgreSQL has noticed
		first.Close()
		if first = take(b, local); first == nil {
			t.Fatal("after Close the workspace is still taken")
		}
	}
	// The connection dies, without a word.
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	launch(t, a, 1)
	if _, err := conn.Exec(t.Context(), `SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
		WHERE d.datname = current_database() AND l.locktype = 'advisory' AND objid::bigint = hashtext('local')::bigint & 4294967295 AND l.pid <> pg_backend_pid()`); err != nil {
		t.Fatal(err)
	}
	var second *store.Workspace
	testkit.Eventually(t, "the workspace to be free", func() bool {
		second = take(a, local)
		return second != nil
	})
	if err := first.Check(t.Context()); err == nil {
		t.Error("who has lost the lock does not notice")
	}
	// Who has lost it takes no operation from who has it.
	if c, err := first.Claim(t.Context()); err == nil {
		t.Errorf("who has lost the lock took %+v", c)
	}
	if c := claim(t, second); c.Attempt != 1 {
		t.Errorf("attempt %d, want the first", c.Attempt)
	}
	must(t, other.Check(t.Context()))
}

func TestLockWorkspace_ManyAtOnce(t *testing.T) {
	t.Parallel()
	a, b, _ := two(t)
	var mu sync.Mutex
	var got []*store.Workspace
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			w, err := []*store.Store{a, b}[i%2].LockWorkspace(t.Context(), local)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			} else if w != nil {
				got = append(got, w)
			}
		})
	}
	wg.Wait()
	if len(got) != 1 {
		t.Errorf("%d have the workspace", len(got))
	}
	for _, w := range got {
		w.Close()
	}
}

// Operations come one after the other, those that lost their runner first.
func TestClaim_Order(t *testing.T) {
	t.Parallel()
	s, other, _ := two(t)
	w := workspace(t, s)
	if c, err := w.Claim(t.Context()); err != nil || c != nil {
		t.Fatalf("without operations: %+v, %v", c, err)
	}
	if open, err := s.OpenOperations(t.Context(), local); err != nil || open {
		t.Fatalf("without operations: %v, %v", open, err)
	}
	foreign := launchOf(1)
	foreign.Provider = "aws"
	_, err := s.Launch(t.Context(), admin, foreign)
	must(t, err)
	one, two := launch(t, s, 1), launch(t, s, 2)
	three := destroyed(t, s, "lab-2")
	if open, err := other.OpenOperations(t.Context(), local); err != nil || !open {
		t.Fatalf("with operations: %v, %v", open, err)
	}
	first := claim(t, w)
	if open, err := s.UnfinishedOperations(t.Context()); err != nil || len(open) != 4 || open[0].ID != three.ID || open[2].ID != one.ID || len(open[1].Steps) != 2 {
		t.Errorf("unfinished are %+v, %v", open, err)
	}
	if first.ID != one.ID || first.Attempt != 1 || first.State != fleet.OperationRunning || first.Phase != fleet.PhasePreparing || first.Started.IsZero() || len(first.Steps) != 1 {
		t.Errorf("the first is %+v", first.Operation)
	}
	w.Close() // the runner dies
	w = workspace(t, other)
	again := claim(t, w)
	if again.ID != one.ID || again.Attempt != 2 || !again.Started.Equal(first.Started) {
		t.Errorf("then %+v, want the first once more", again.Operation)
	}
	must(t, again.Finish(t.Context(), fleet.OperationFailed, "why"))
	for _, want := range []fleet.Operation{two, three} {
		c := claim(t, w)
		if c.ID != want.ID || c.Attempt != 1 || !slices.Equal(names(c.Operation), names(want)) {
			t.Errorf("next is %+v, want %+v", c.Operation, want)
		}
		must(t, c.Finish(t.Context(), fleet.OperationSucceeded, ""))
	}
	if c, err := w.Claim(t.Context()); err != nil || c != nil {
		t.Errorf("at the end: %+v, %v", c, err)
	}
	op, err := s.Operation(t.Context(), one.ID)
	must(t, err)
	if op.State != fleet.OperationFailed || op.Error != "why" || op.Phase != "" || op.Ended.IsZero() || op.Attempt != 2 {
		t.Errorf("the first ended as %+v", op)
	}
	if open, err := s.UnfinishedOperations(t.Context()); err != nil || len(open) != 1 || open[0].Provider != "aws" {
		t.Errorf("unfinished are %+v, %v", open, err)
	}
	ops, err := s.Operations(t.Context(), 2)
	must(t, err)
	if len(ops) != 2 || ops[0].ID != three.ID || ops[1].ID != two.ID || len(ops[1].Steps) != 2 {
		t.Errorf("the newest are %+v", ops)
	}
}

// An operation that somebody touches at this instant keeps its turn.
func TestClaim_LockedOperationKeepsItsTurn(t *testing.T) {
	t.Parallel()
	s, _, url := two(t)
	one := launch(t, s, 1)
	launch(t, s, 1)
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `BEGIN; UPDATE operations SET stopping = true WHERE id = 1`); err != nil {
		t.Fatal(err)
	}
	w := workspace(t, s)
	got := make(chan *store.Claim, 1)
	go func() {
		c, err := w.Claim(t.Context())
		if err != nil {
			t.Error(err)
		}
		got <- c
	}()
	testkit.Eventually(t, "the claim to wait, or not to", func() bool {
		waiting, err := store.CountRows(t.Context(), s, `pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
		return err != nil || waiting > 0 || len(got) > 0
	})
	if _, err := conn.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if c := <-got; c == nil || c.ID != one.ID || !c.Stopping {
		t.Errorf("claimed %+v", c)
	}
}

// noted are all methods of a Claim that write, or ask whether it still stands, in
// the order of their names. op has two VMs.
func noted(op fleet.Operation) map[string]func(context.Context, *store.Claim) error {
	vms, now := ids(op), times(2, time.Now())
	return map[string]func(context.Context, *store.Claim) error{
		"StopAsked": func(ctx context.Context, c *store.Claim) error {
			_, err := c.StopAsked(ctx)
			return err
		},
		"Enter": func(ctx context.Context, c *store.Claim) error { return c.Enter(ctx, fleet.PhaseApplying) },
		"Plan":  func(ctx context.Context, c *store.Claim) error { return c.Plan(ctx, vms) },
		"Place": func(ctx context.Context, c *store.Claim) error {
			return c.Place(ctx, vms, []string{"g5.xlarge", "g5.2xlarge"})
		},
		"Note": func(ctx context.Context, c *store.Claim) error { return c.Note(ctx, vms, []string{"a", "b"}) },
		"GiveTokens": func(ctx context.Context, c *store.Claim) error {
			return c.GiveTokens(ctx, vms, [][]byte{fleet.HashToken("x"), fleet.HashToken("y")})
		},
		"Begin":     func(ctx context.Context, c *store.Claim) error { return c.Begin(ctx, vms, now) },
		"Created":   func(ctx context.Context, c *store.Claim) error { return c.Created(ctx, vms, now) },
		"Destroyed": func(ctx context.Context, c *store.Claim) error { return c.Destroyed(ctx, vms, now) },
		"Failing":   func(ctx context.Context, c *store.Claim) error { return c.Failing(ctx, vms) },
		"Failed":    func(ctx context.Context, c *store.Claim) error { return c.Failed(ctx, vms, []string{"a", "b"}) },
		"Cancelled": func(ctx context.Context, c *store.Claim) error { return c.Cancelled(ctx, vms) },
		"Describe": func(ctx context.Context, c *store.Claim) error {
			return c.Describe(ctx, names(op), []string{"i-1", "i-2"}, []string{"192.0.2.1", "192.0.2.2"})
		},
		"SkipNumbers": func(ctx context.Context, c *store.Claim) error { return c.SkipNumbers(ctx, "lab-", 99) },
		"Write":       func(ctx context.Context, c *store.Claim) error { return c.Write(ctx, "a line\n") },
		"SetStrays":   func(ctx context.Context, c *store.Claim) error { return c.SetStrays(ctx, []string{"stray"}) },
		"AddStrays":   func(ctx context.Context, c *store.Claim) error { return c.AddStrays(ctx, []string{"stray"}) },
		"Finish": func(ctx context.Context, c *store.Claim) error {
			return c.Finish(ctx, fleet.OperationFailed, "why")
		},
	}
}

// A runner whose operation another one has, or has ended, changes nothing more.
func TestClaim_Lost(t *testing.T) {
	t.Parallel()
	s := open(t)
	op := launch(t, s, 2)
	w := workspace(t, s)
	methods := noted(op)
	harmless := []string{"Targets", "Count", "Retryable"} // they only read
	for m := range reflect.TypeFor[*store.Claim]().Methods() {
		if methods[m.Name] == nil && !slices.Contains(harmless, m.Name) {
			t.Errorf("method %s is not tried", m.Name)
		}
	}
	all := func(what string, c *store.Claim) {
		t.Helper()
		before := dump(t, s)
		for name, method := range methods {
			if err := method(t.Context(), c); !errors.Is(err, store.ErrClaimLost) {
				t.Errorf("%s, %s: %v, want ErrClaimLost", what, name, err)
			}
			if after := dump(t, s); !maps.Equal(before, after) {
				t.Fatalf("%s, %s changed %s", what, name, changes(before, after))
			}
		}
	}
	older := claim(t, w)
	newer := claim(t, w)
	all("taken over", older)
	must(t, newer.Finish(t.Context(), fleet.OperationFailed, "why"))
	all("ended by the other", older)
	delete(methods, "StopAsked") // its own end is no loss
	all("ended", newer)
}

// A runner that cannot know whether its last word arrived says it again.
func TestClaim_Idempotent(t *testing.T) {
	t.Parallel()
	for name, method := range noted(fleet.Operation{Steps: make([]fleet.Step, 2)}) {
		_ = method
		if slices.Contains([]string{"Finish", "GiveTokens", "Write", "StopAsked"}, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			op := launch(t, s, 2)
			if name == "Destroyed" {
				run(t, s, op)
				op = destroyed(t, s, names(op)...)
			}
			c := claim(t, workspace(t, s))
			must(t, c.Plan(t.Context(), ids(op)[:1]))
			if name == "Note" {
				must(t, c.Created(t.Context(), ids(op), times(2, time.Now())))
			}
			start := dump(t, s)
			must(t, noted(op)[name](t.Context(), c))
			before := dump(t, s)
			if maps.Equal(start, before) {
				t.Error("it changes nothing")
			}
			must(t, noted(op)[name](t.Context(), c)) // of another time
			after := dump(t, s)
			if name == "AddStrays" || name == "SetStrays" { // when they were seen
				delete(before, "strays")
				delete(after, "strays")
			}
			if !maps.Equal(before, after) {
				t.Errorf("once more changed %s", changes(before, after))
			}
		})
	}
}
