package fleet

import (
	"slices"
	"testing"
)

// Every state has its moves, and only those that make sense are final.
func TestOperationMoves_Total(t *testing.T) {
	t.Parallel()
	if len(operationMoves) != len(OperationStates) {
		t.Errorf("the table has %d states, there are %d", len(operationMoves), len(OperationStates))
	}
	for _, s := range OperationStates {
		moves, ok := operationMoves[s]
		if !ok {
			t.Errorf("%s has no entry", s)
		}
		for _, next := range moves {
			if !slices.Contains(OperationStates, next) {
				t.Errorf("%s goes to %q, which is no state", s, next)
			}
			if !s.CanMove(next) {
				t.Errorf("CanMove(%s, %s) = false", s, next)
			}
		}
		final := s == OperationSucceeded || s == OperationFailed || s == OperationCancelled
		if s.Final() != final {
			t.Errorf("%s.Final() = %v", s, s.Final())
		}
	}
	if OperationSucceeded.CanMove(OperationRunning) {
		t.Error("a finished operation runs again")
	}
}

func TestValidateInstanceType(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"g4dn.xlarge", "t2.medium", "small", "Standard_NC6s_v3", "u-6tb1.56xlarge"} {
		if err := ValidateInstanceType(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", " ", "a b", "g4dn.xlarge\n", `"`, "${x}", "ä", string(make([]byte, 65))} {
		if KindOf(ValidateInstanceType(bad)) != Invalid {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// From every state an operation comes to an end, and every state is reached.
func TestOperationMoves_NoDeadEnd(t *testing.T) {
	t.Parallel()
	reached := map[OperationState]bool{OperationPending: true}
	for range OperationStates {
		for _, s := range OperationStates {
			for _, next := range operationMoves[s] {
				reached[next] = reached[next] || reached[s]
			}
		}
	}
	for _, s := range OperationStates {
		if !reached[s] {
			t.Errorf("%s is never reached", s)
		}
		ends := s.Final()
		for _, next := range operationMoves[s] {
			ends = ends || next.Final() || slices.ContainsFunc(operationMoves[next], OperationState.Final)
		}
		if !ends {
			t.Errorf("%s never ends", s)
		}
	}
}

func TestOperation_Retryable(t *testing.T) {
	t.Parallel()
	for _, kind := range []OperationKind{KindLaunch, KindDestroy} {
		for _, state := range OperationStates {
			for _, step := range []StepState{StepWaiting, StepPlanned, StepRunning, StepDone, StepFailed, StepCancelled} {
				o := Operation{Kind: kind, State: state, Steps: []Step{{State: StepDone}, {State: step}}}
				want := state.Final() && (step == StepFailed || step == StepCancelled && kind == KindDestroy)
				if o.Retryable() != want {
					t.Errorf("a %s that is %s, with a VM that is %s: Retryable() = %v", kind, state, step, o.Retryable())
				}
				final := step == StepDone || step == StepFailed || step == StepCancelled
				if step.Final() != final {
					t.Errorf("%s.Final() = %v", step, step.Final())
				}
				wantDone := 1
				if step == StepDone {
					wantDone = 2
				}
				if n := o.Count(StepDone); n != wantDone {
					t.Errorf("%d VMs are done, want %d", n, wantDone)
				}
			}
		}
	}
}
