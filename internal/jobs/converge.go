package jobs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"lablink/internal/fleet"
	"lablink/internal/provision"
	"lablink/internal/store"
)

// wanted are the VMs that shall exist beside the targets, as far as rows know.
func (o *run) wanted() (map[string]provision.VM, error) {
	rows, err := o.Store.LiveVMs(o.whole, o.Provider)
	if err != nil {
		return nil, note(err)
	}
	vms := map[string]provision.VM{}
	for hostname, row := range rows {
		if _, target := o.targets[hostname]; !target && row.Creation == fleet.CreationDone {
			vms[hostname] = o.spec(row)
		}
	}
	return vms, nil
}

// maxTries is how often a plan may bring a surprise.
const maxTries = 5

// converge plans so that nothing changes but the targets: what Terraform's state
// holds stays, whether a row knows it or not, and a row without a machine makes
// none. It refuses a plan that would destroy more than asked names.
func (o *run) converge(ctx context.Context, vms map[string]provision.VM, tokens map[string]string, asked func(string) bool) (*provision.Plan, error) {
	if err := o.claim.Enter(o.whole, fleet.PhasePlanning); err != nil {
		return nil, note(err)
	}
	o.strays, o.condemned, o.wants = map[string]bool{}, map[string]bool{}, map[string]bool{}
	for hostname := range vms {
		o.wants[hostname] = true
	}
	askedOr := func(hostname string) bool { return asked(hostname) || o.condemned[hostname] }
	var adopted []provision.Thing
	for tries := 0; ; tries++ {
		if err := o.workspace.Adopt(adopted); err != nil {
			return nil, err
		}
		plan, err := o.workspace.Plan(ctx, vms, tokens, func(key string) bool { return o.isTarget(key) || strings.HasPrefix(key, o.Prefix) })
		if err != nil {
			return nil, err
		}
		o.plan, o.there = plan, map[string]bool{}
		for _, hostname := range plan.VMs() {
			if plan.Exists(hostname) {
				o.there[hostname] = true
			}
		}
		found, err := o.survey(ctx)
		if err != nil {
			return nil, err
		}
		surprised := len(found.adopt) > 0
		adopted = append(adopted, found.adopt...)
		if !surprised { // else the next plan is another one
			if surprised, err = o.spare(plan, vms, askedOr); err != nil {
				return nil, err
			}
		}
		switch unasked := plan.Unasked(askedOr, o.remains(vms, askedOr)); {
		case surprised && tries < maxTries: // the state, the rows and the cloud may each surprise
		case surprised:
			return nil, errors.New("nothing was changed: Terraform's plans contradict each other, each one changes VMs that the one before left alone")
		case len(unasked) > 0:
			return nil, fmt.Errorf("the plan was refused, and nothing was changed: Terraform would change, destroy or replace %s, which this operation did not ask for. "+
				"If the module or its provider has changed, change it back, or destroy these VMs first", strings.Join(unasked, ", "))
		default:
			return plan, nil
		}
	}
}

// spare changes the VMs that shall exist so that the next plan touches none but
// those asked for, and reports whether that was necessary.
func (o *run) spare(plan *provision.Plan, vms map[string]provision.VM, asked func(string) bool) (surprised bool, err error) {
	for _, hostname := range plan.VMs() {
		_, wanted := vms[hostname]
		switch {
		case asked(hostname):
		case plan.Touches(hostname) && o.strays[hostname]:
			gone, err := o.Store.WasDestroyed(o.whole, o.Provider, hostname)
			if err != nil {
				return false, note(err)
			}
			if !gone {
				continue
			}
			// An admin asked for its end before, and Terraform cannot leave it as it is.
			delete(vms, hostname)
			o.condemned[hostname], surprised = true, true
			o.recorder.line(hostname + " is what is left of a VM that was destroyed. It is removed.")
		case plan.Deletes(hostname) && !plan.Creates(hostname) && !wanted:
			vms[hostname], surprised, o.strays[hostname] = o.spec(store.Target{}), true, true
			o.recorder.line(hostname + " exists, but no row of the database knows it. It is left as it is.")
		case plan.Creates(hostname) && !plan.Exists(hostname) && wanted:
			delete(vms, hostname)
			surprised = true
			o.recorder.line(hostname + " stands in the database, but Terraform's state does not know it. It is not made again.")
		}
	}
	return surprised, nil
}

// remains reports whether there are VMs that stay, and that may need what they
// share.
func (o *run) remains(vms map[string]provision.VM, asked func(string) bool) bool {
	for hostname := range o.there {
		if _, stays := vms[hostname]; stays && !asked(hostname) {
			return true
		}
	}
	return false
}

// refuseForeign looks for new hostnames that Terraform's state holds already:
// those machines are of an earlier database, and nobody has their tokens.
func (o *run) refuseForeign(plan *provision.Plan) error {
	if !o.claim.Applied.IsZero() || o.applied {
		return nil // they may be this operation's own
	}
	var foreign []string
	var last int64
	skip := func(hostname string) {
		if n, err := strconv.ParseInt(strings.TrimPrefix(hostname, o.Prefix), 10, 64); err == nil {
			last = max(last, n)
		}
	}
	for hostname := range o.unknown {
		skip(hostname)
	}
	for _, hostname := range plan.VMs() {
		if plan.Exists(hostname) {
			skip(hostname)
		}
		if t, ok := o.targets[hostname]; ok && t.New && plan.Exists(hostname) {
			foreign = append(foreign, hostname)
		}
	}
	if len(foreign) == 0 {
		return nil
	}
	ids := make([]int64, 0, len(o.targets))
	for _, t := range o.targets {
		ids = append(ids, t.ID)
	}
	if err := errors.Join(o.claim.SkipNumbers(o.whole, o.Prefix, last), o.claim.Cancelled(o.whole, ids)); err != nil {
		return note(err)
	}
	o.targets = map[string]store.Target{}
	return fmt.Errorf("nothing was changed: Terraform's state already holds %s, which this database does not know. "+
		"The numbers up to %d are skipped from now on: launch again", strings.Join(foreign, ", "), last)
}
