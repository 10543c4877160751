package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/provision"
	"lablink/internal/store"
)

// run is one operation in the hands of this runner.
type run struct {
	*Runner
	claim    *store.Claim
	logger   *slog.Logger
	recorder *recorder
	whole    context.Context //nolint:containedctx // ends with the right to the operation; one that an admin stops still puts things away

	workspace *provision.Workspace
	targets   map[string]store.Target // the VMs of the operation
	done      map[string]bool         // targets that are made, or destroyed
	reasons   map[string]string       // why targets are not
	there     map[string]bool         // machines that exist; nil before the first plan
	strays    map[string]bool         // of them, those that no row knows, and that are to stay
	condemned map[string]bool         // and those that cannot stay, and should have been destroyed before
	plan      *provision.Plan         // the last one
	wants     map[string]bool         // the VMs that shall exist, before the last plan brought surprises
	leftover  map[string]bool         // VMs of which there is something that is to end
	ended     map[string]bool         // ids of what was ended: a cloud may tell of it for a while
	unknown   map[string]bool         // what is there, is to stay, and is neither in Terraform's state nor of a row
	places    map[string]*places      // where targets of a launch are made
	applied   bool                    // Terraform was let loose
	cleaning  bool                    // what it does now concerns VMs that have failed already
}

// outcome is how an operation ends.
type outcome struct {
	state   fleet.OperationState
	message string // why, if it failed
}

func failed(err error) outcome { return outcome{fleet.OperationFailed, err.Error()} }

// do runs the operation and records its end. It returns an error when the end is
// not this run's to record.
func (o *run) do(ctx context.Context) error {
	recording, stop := context.WithCancel(o.whole)
	recorded := make(chan struct{})
	go func() {
		defer close(recorded)
		o.recorder.run(recording)
	}()
	result, err := o.work(ctx)
	stop()
	<-recorded

	// What has happened is written down even when the process is told to stop.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if flushErr := o.recorder.flush(ending); err == nil {
		err = flushErr
	}
	if err != nil {
		return err
	}
	if err := o.claim.Finish(ending, result.state, result.message); err != nil {
		return err
	}
	op, err := o.Store.Operation(ending, o.claim.ID)
	if err != nil {
		return err
	}
	o.logger.Info("operation ended", "state", op.State, "vms", finished(op), "error", op.Error)
	return nil
}

func (o *run) stopped(ctx context.Context) bool { return errors.Is(context.Cause(ctx), errStopped) }

func (o *run) work(ctx context.Context) (outcome, error) {
	targets, err := o.claim.Targets(o.whole)
	if err != nil {
		return outcome{}, err
	}
	o.targets, o.done, o.reasons, o.ended = targets, o.doneBefore(targets), map[string]string{}, map[string]bool{}
	var problem error
	if !o.stopped(ctx) {
		problem = o.prepare(ctx)
	}
	switch {
	case problem != nil || o.stopped(ctx):
	case o.claim.Kind == fleet.KindLaunch:
		problem = o.launch(ctx)
	default:
		problem = o.destroy(ctx)
	}
	if err := context.Cause(o.whole); err != nil {
		return outcome{}, err
	}
	if lost, ok := errors.AsType[*recordError](problem); ok {
		return outcome{}, lost.err
	}
	return o.settle(ctx, problem)
}

// doneBefore returns the targets that an earlier runner has made, or destroyed.
// Whatever becomes of this run, they are not to be touched: a participant may
// hold one.
func (o *run) doneBefore(targets map[string]store.Target) map[string]bool {
	done := map[string]bool{}
	for _, step := range o.claim.Steps {
		t := targets[step.Hostname]
		if step.State == fleet.StepDone && (o.claim.Kind == fleet.KindDestroy || t.Live && t.Creation == fleet.CreationDone) {
			done[step.Hostname] = true
		}
	}
	return done
}

// recordError is trouble with the database, not with Terraform: it does not
// decide about the operation.
type recordError struct{ err error }

// Error implements error.
func (e *recordError) Error() string { return e.err.Error() }

// note makes a recordError of the error of a store's method.
func note(err error) error {
	if err == nil {
		return nil
	}
	return &recordError{err}
}

func (o *run) prepare(ctx context.Context) error {
	if err := o.claim.Enter(o.whole, fleet.PhasePreparing); err != nil {
		return note(err)
	}
	if o.claim.Attempt > 1 {
		o.recorder.line(fmt.Sprintf("--- Taken up again after its runner ended (attempt %d)", o.claim.Attempt))
	}
	return o.open(ctx)
}

func (o *run) open(ctx context.Context) error {
	if o.workspace == nil {
		w, err := o.Workspace(ctx)
		if err != nil {
			return err
		}
		w.Log, w.Operation = o.recorder.line, strconv.FormatInt(o.claim.ID, 10)
		o.workspace = w
	}
	return o.workspace.Open(ctx)
}

// launch makes the targets. What it returns concerns all of them; why single
// ones failed is in reasons.
func (o *run) launch(ctx context.Context) error {
	if err := o.clearAway(ctx); err != nil {
		return err
	}
	if err := o.findPlaces(ctx); err != nil {
		return err
	}
	for {
		if err := o.makeTargets(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil || !o.moveOn() {
			return o.notePlaces()
		}
	}
}

// makeTargets makes those targets that are not there, each in its place.
func (o *run) makeTargets(ctx context.Context) error {
	vms, err := o.wanted()
	if err != nil {
		return err
	}
	tokens := map[string]string{}
	for hostname, t := range o.targets {
		if t.Live && t.Creation != fleet.CreationFailed && !o.places[hostname].full {
			vms[hostname], tokens[hostname] = o.places[hostname].current(), fleet.NewToken()
		}
	}
	if len(tokens) == 0 {
		return nil
	}
	plan, err := o.converge(ctx, vms, tokens, o.isTarget)
	if err != nil {
		return err
	}
	if err := o.refuseForeign(plan); err != nil {
		return err
	}
	var existing, planned []int64
	var types []string
	var hashes [][]byte
	for hostname, token := range tokens {
		id := o.targets[hostname].ID
		if plan.Creates(hostname) {
			planned, types, hashes = append(planned, id), append(types, vms[hostname].InstanceType), append(hashes, fleet.HashToken(token))
			continue
		}
		o.done[hostname] = true // by an earlier runner
		existing = append(existing, id)
	}
	if err := errors.Join(
		o.recorder.flush(o.whole), // an earlier try's failures must not come after what follows
		o.claim.Created(o.whole, existing, make([]time.Time, len(existing))),
		o.claim.Place(o.whole, planned, types),
		o.claim.Plan(o.whole, planned),
		o.claim.GiveTokens(o.whole, planned, hashes)); err != nil {
		return note(err)
	}
	return o.apply(ctx, plan, fleet.PhaseApplying)
}

// clearAway removes what an earlier operation left of VMs that are tried again.
// Their tokens are void: a machine that is half there would never be let in.
func (o *run) clearAway(ctx context.Context) error {
	again := func(hostname string) bool { t, ok := o.targets[hostname]; return ok && !t.New }
	if !o.claim.Applied.IsZero() || !slices.ContainsFunc(slices.Collect(maps.Keys(o.targets)), again) {
		return nil
	}
	vms, err := o.wanted()
	if err != nil {
		return err
	}
	plan, err := o.converge(ctx, vms, nil, o.isTarget)
	left := func(hostname string) bool { return again(hostname) && (plan.Exists(hostname) || o.leftover[hostname]) }
	if err != nil || !slices.ContainsFunc(slices.Collect(maps.Keys(o.targets)), left) {
		return err
	}
	o.cleaning = true
	defer func() { o.cleaning = false }()
	return o.apply(ctx, plan, fleet.PhaseCleaning)
}

func (o *run) isTarget(hostname string) bool {
	_, ok := o.targets[hostname]
	return ok
}

// destroy destroys the targets.
func (o *run) destroy(ctx context.Context) error {
	vms, err := o.wanted()
	if err != nil {
		return err
	}
	plan, err := o.converge(ctx, vms, nil, o.isTarget)
	if err != nil {
		return err
	}
	var planned []int64
	var gone []string // of which Terraform's state knows nothing
	for hostname, t := range o.targets {
		if plan.Deletes(hostname) {
			planned = append(planned, t.ID)
			delete(o.done, hostname)
		} else {
			gone = append(gone, hostname)
		}
	}
	if err := o.claim.Plan(o.whole, planned); err != nil {
		return note(err)
	}
	err = o.apply(ctx, plan, fleet.PhaseApplying)
	if _, lost := errors.AsType[*recordError](err); lost || ctx.Err() != nil {
		return err
	}
	// Only now, because a sweep may have had to end them.
	var ended []int64
	var at []time.Time
	for _, hostname := range gone {
		if o.reasons[hostname] == "" {
			o.done[hostname] = true
			ended, at = append(ended, o.targets[hostname].ID), append(at, time.Now())
		}
	}
	return errors.Join(err, note(o.claim.Destroyed(o.whole, ended, at)))
}

// apply carries a plan out, if there is anything to do, and notes what becomes
// of the targets. Machines that nothing knows are ended before, because one of
// them may have a hostname that is about to be made, and after: Terraform runs no
// destroy-time provisioner for a resource that it failed to make.
func (o *run) apply(ctx context.Context, plan *provision.Plan, phase fleet.Phase) error {
	if err := o.claim.Enter(o.whole, phase); err != nil {
		return note(err)
	}
	left, err := o.sweep(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(left, plan.Creates) {
		return fmt.Errorf("nothing was changed: what is left of %s could not be removed, and would be there twice: %w", strings.Join(left, ", "), o.whyLeft(left))
	}
	if plan.Empty() {
		return o.leaving(left)
	}
	o.applied = true
	machines, err := o.workspace.Apply(ctx, plan, func(e provision.Event) { o.follow(ctx, e) })
	if machines != nil {
		var hostnames, ids, addresses []string
		for _, h := range slices.Sorted(maps.Keys(machines)) {
			hostnames, ids, addresses = append(hostnames, h), append(ids, machines[h].ID), append(addresses, machines[h].Address)
		}
		if err := o.claim.Describe(o.whole, hostnames, ids, addresses); err != nil {
			return note(err)
		}
	}
	if failure, ok := errors.AsType[*provision.ApplyError](err); ok {
		maps.Copy(o.reasons, failure.Reasons)
		if failure.General == "" && len(failure.Reasons) > 0 && !o.cleaning {
			err = nil // each VM has its own reason
		}
	}
	if ctx.Err() != nil {
		return err
	}
	left, sweepErr := o.sweep(ctx)
	if _, lost := errors.AsType[*recordError](sweepErr); sweepErr != nil && !lost && o.claim.Kind == fleet.KindLaunch && !o.cleaning {
		// What is made is made. The next operation looks again.
		o.recorder.line(sweepErr.Error())
		sweepErr = nil
	}
	return errors.Join(err, sweepErr, o.leaving(left))
}

// leaving is what it means that something of these VMs is left: where it was to be
// removed, the failure of that; else only a reason of each VM that it is about.
func (o *run) leaving(left []string) error {
	if !o.cleaning {
		return nil
	}
	return o.whyLeft(left)
}

func (o *run) whyLeft(left []string) error {
	var why []error
	for _, hostname := range left {
		why = append(why, errors.New(o.reasons[hostname]))
	}
	return errors.Join(why...)
}

// follow takes what Terraform tells while it works.
func (o *run) follow(ctx context.Context, e provision.Event) {
	switch e.Kind {
	case provision.VMCreated:
		o.there[e.Hostname] = true
	case provision.VMDestroyed:
		delete(o.there, e.Hostname)
	case provision.VMBegun, provision.VMFailed:
	}
	t, ok := o.targets[e.Hostname]
	launch := o.claim.Kind == fleet.KindLaunch
	switch {
	case !ok || o.cleaning:
		return
	case e.Kind == provision.VMCreated && !launch, e.Kind == provision.VMDestroyed && launch:
		return // a step on the way to the other
	case e.Kind == provision.VMFailed && ctx.Err() != nil:
		return // interrupted by us
	case e.Kind == provision.VMCreated, e.Kind == provision.VMDestroyed:
		o.done[e.Hostname] = true
	}
	o.recorder.event(event{e.Kind, t.ID, e.At})
}
