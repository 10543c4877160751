// Package jobs runs the operations that admins ask for: it claims them, one at a
// time per provider and across all replicas, has Terraform make or destroy the
// VMs, and records how it goes. What a dead runner left is taken up within
// seconds by the next one.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/provision"
	"lablink/internal/store"
	"lablink/internal/wait"
)

const (
	// lookEvery is how long an operation waits at most for a runner, should the
	// notification of it be lost or its runner die.
	lookEvery = 2 * time.Second
	// checkTimeout is how long the lock's connection may be silent before a runner
	// counts as having lost it.
	checkTimeout = 5 * time.Second
)

// Runner runs the operations of one provider. Its zero value is of no use: all
// fields are required.
type Runner struct {
	Store  *store.Store
	Feed   *wait.Feed
	Logger *slog.Logger
	Prefix string // of hostnames
	// Workspace returns the working folder in which Terraform runs. It is called for each operation, and fails if that
	// cannot be done at present.
	Workspace    func(ctx context.Context) (*provision.Workspace, error)
	Provider     string
	InstanceType string // of VMs that no row knows
}

// Reasons why a run is cut short.
var (
	errStopped = errors.New("an admin has stopped the operation")
	errLost    = errors.New("the connection that holds the workspace's lock is lost")
	errSlow    = fmt.Errorf("it was not done within %v", cleanWithin)
)

// Run works until ctx ends. An operation that runs at that moment is
// interrupted, and Run returns when Terraform has ended; the next runner takes
// the operation up again.
func (r *Runner) Run(ctx context.Context) {
	changed, unsubscribe := r.Feed.Subscribe(wait.Any)
	defer unsubscribe()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := r.work(ctx); err != nil && ctx.Err() == nil {
			r.Logger.Error("operations cannot be run at present", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(lookEvery):
			}
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-tick.C:
		}
	}
}

// work runs all operations that wait, unless another runner does.
func (r *Runner) work(ctx context.Context) error {
	open, err := r.Store.OpenOperations(ctx, r.Provider)
	if err != nil || !open {
		return err
	}
	lock, err := r.Store.LockWorkspace(ctx, r.Provider)
	if err != nil || lock == nil {
		return err
	}
	defer lock.Close()
	for {
		claim, err := lock.Claim(ctx)
		if err != nil || claim == nil {
			return err
		}
		if err := r.runOne(ctx, lock, claim); err != nil {
			return fmt.Errorf("operation %d: %w", claim.ID, err)
		}
	}
}

// runOne runs an operation to its end. An error means that the end could not be
// recorded, so that it will be run again.
func (r *Runner) runOne(ctx context.Context, lock *store.Workspace, claim *store.Claim) error {
	logger := r.Logger.With("operation", claim.ID, "kind", claim.Kind, "attempt", claim.Attempt)
	logger.Info("operation begins", "vms", len(claim.Steps))
	whole, lose := context.WithCancelCause(ctx)
	running, stop := context.WithCancelCause(whole)
	if claim.Stopping {
		stop(errStopped)
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		r.watch(whole, lock, claim, lose, stop)
	}()
	o := &run{Runner: r, claim: claim, logger: logger, whole: whole}
	o.recorder = newRecorder(claim, logger)
	err := o.do(running)
	lose(nil)
	<-watched
	return err
}

// watch ends a run when the right to it may be lost, and what it is at when an
// admin stops the operation: the run then still puts things away.
func (r *Runner) watch(ctx context.Context, lock *store.Workspace, claim *store.Claim, lose, stop context.CancelCauseFunc) {
	changed, unsubscribe := r.Feed.Subscribe(wait.Operation(strconv.FormatInt(claim.ID, 10)))
	defer unsubscribe()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		// A query that is cut short would close the connection, and give the lock up.
		check, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
		err := lock.Check(check)
		var asked bool
		if err == nil {
			asked, err = claim.StopAsked(check)
		}
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			lose(fmt.Errorf("%w: %w", errLost, err))
			return
		case asked:
			stop(errStopped)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// spec is what the module is told of a VM.
func (r *Runner) spec(t store.Target) provision.VM {
	if t.InstanceType == "" {
		return provision.VM{InstanceType: r.InstanceType}
	}
	return provision.VM{InstanceType: t.InstanceType}
}

// finished says in one line how an operation went.
func finished(op fleet.Operation) string {
	return fmt.Sprintf("%d done, %d failed, %d cancelled", op.Count(fleet.StepDone), op.Count(fleet.StepFailed), op.Count(fleet.StepCancelled))
}
