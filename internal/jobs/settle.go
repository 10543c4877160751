package jobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lablink/internal/fleet"
)

// settle makes up for what was not done, and decides how the operation ends.
// problem is what concerns all of it.
func (o *run) settle(ctx context.Context, problem error) (outcome, error) {
	stopped := o.stopped(ctx) // asked once: a stop may come at any moment
	// Events first: they must not overwrite what is decided here.
	if err := o.recorder.flush(o.whole); err != nil {
		return outcome{}, err
	}
	launch := o.claim.Kind == fleet.KindLaunch
	var missing []string
	var dropped []int64 // VMs of a launch that somebody destroyed before they were made
	for hostname, t := range o.targets {
		switch {
		case o.done[hostname]:
		case launch && !t.Live:
			dropped = append(dropped, t.ID)
		default:
			missing = append(missing, hostname)
		}
	}
	slices.Sort(missing)
	if err := o.claim.Cancelled(o.whole, dropped); err != nil {
		return outcome{}, err
	}
	if err := o.giveUp(stopped, missing, problem); err != nil {
		return outcome{}, err
	}
	result := o.judge(stopped, missing, problem)
	// Before the first apply there is nothing to clean up, unless an earlier runner left it.
	if launch && len(missing)+len(dropped) > 0 && (o.applied || o.claim.Attempt > 1) {
		err := o.cleanUp(ctx)
		if lost, ok := errors.AsType[*recordError](err); ok {
			return outcome{}, lost.err
		}
		if lost := context.Cause(o.whole); lost != nil {
			return outcome{}, lost
		}
		if err != nil {
			todo := "Try them again, or destroy them"
			if stopped {
				todo = "The overview lists what there is"
			}
			result.message = strings.TrimSpace(fmt.Sprintf(
				"%s\nWhat is left of the VMs that are not there could not be removed, and may cost money. %s: %v", result.message, todo, err))
		}
	}
	return result, o.listStrays()
}

// giveUp notes what has become of the VMs that are not done.
func (o *run) giveUp(stopped bool, missing []string, problem error) error {
	ids, reasons := make([]int64, len(missing)), make([]string, len(missing))
	for i, hostname := range missing {
		ids[i], reasons[i] = o.targets[hostname].ID, o.reason(hostname, problem)
	}
	if stopped {
		return o.claim.Cancelled(o.whole, ids)
	}
	return o.claim.Failed(o.whole, ids, reasons)
}

func (o *run) judge(stopped bool, missing []string, problem error) outcome {
	launch := o.claim.Kind == fleet.KindLaunch
	switch {
	case launch && len(o.done) == 0 && len(missing) == 0 && problem == nil:
		return outcome{fleet.OperationCancelled, ""} // all of its VMs were destroyed first
	case len(missing) == 0 && (problem == nil || stopped):
		return outcome{fleet.OperationSucceeded, ""} // also when the stop came too late to change anything
	case stopped:
		return outcome{fleet.OperationCancelled, ""}
	case problem != nil:
		return failed(problem)
	case launch && len(o.done) > 0:
		return outcome{fleet.OperationSucceeded, ""} // its VMs are used; the page tells of the others
	case launch:
		return failed(errors.New("none of the VMs could be made"))
	default:
		return failed(fmt.Errorf("%d of %d machines could not be destroyed", len(missing), len(o.targets)))
	}
}

// reason says why a VM is not made, or destroyed.
func (o *run) reason(hostname string, problem error) string {
	switch {
	case o.reasons[hostname] != "":
		return o.reasons[hostname]
	case problem != nil:
		return problem.Error()
	default:
		return "Terraform ended before it came to this VM."
	}
}

// cleanWithin is how long it may take to remove what is left of VMs.
const cleanWithin = 15 * time.Minute

// cleanUp removes what there is of VMs that a launch could not make. A stop cuts
// it, unless it comes after one.
func (o *run) cleanUp(ctx context.Context) error {
	if o.stopped(ctx) {
		ctx = o.whole
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cleanWithin, errSlow)
	defer cancel()
	if err := o.claim.Enter(o.whole, fleet.PhaseCleaning); err != nil {
		return note(err)
	}
	if err := o.open(ctx); err != nil {
		return err
	}
	o.cleaning = true
	vms, err := o.wanted()
	if err != nil {
		return err
	}
	for hostname := range o.done {
		vms[hostname] = o.spec(o.targets[hostname])
	}
	plan, err := o.converge(ctx, vms, nil, func(hostname string) bool { return o.isTarget(hostname) && !o.done[hostname] })
	if err != nil {
		return err
	}
	return o.apply(ctx, plan, fleet.PhaseCleaning)
}

// listStrays notes the machines that no live row knows, as the last plan showed
// them. Without one, those that should have been destroyed count as there.
func (o *run) listStrays() error {
	if o.there == nil && o.claim.Kind == fleet.KindLaunch {
		return nil
	}
	there := o.there
	if there == nil {
		there = map[string]bool{}
		for hostname := range o.targets {
			if !o.done[hostname] {
				there[hostname] = true
			}
		}
	}
	rows, err := o.Store.LiveVMs(o.whole, o.Provider)
	if err != nil {
		return err
	}
	strays := slices.Collect(maps.Keys(o.unknown))
	for hostname := range there {
		if _, live := rows[hostname]; !live {
			strays = append(strays, hostname)
		}
	}
	if o.there == nil {
		return o.claim.AddStrays(o.whole, strays)
	}
	return o.claim.SetStrays(o.whole, strays)
}
