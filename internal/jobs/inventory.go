package jobs

import (
	"context"
	"fmt"
	"slices"

	"lablink/internal/fleet"
	"lablink/internal/provision"
	"lablink/internal/store"
)

// survey is what the cloud has beyond Terraform's state: a runner that was
// killed may have made it.
type survey struct {
	adopt []provision.Thing // is wanted: Terraform is to know it
	end   []provision.Thing // is what is left of VMs that are not wanted
}

// survey compares the cloud with the last plan and the rows. What belongs to
// neither, such as the machines of an older database, stays as it is.
func (o *run) survey(ctx context.Context) (found survey, err error) {
	o.unknown, o.leftover = map[string]bool{}, map[string]bool{}
	cloud := o.workspace.Provider.Cloud
	if cloud == nil {
		return found, nil
	}
	things, err := cloud.Inventory(ctx)
	if err != nil {
		return found, fmt.Errorf("look for machines that Terraform does not know: %w", err)
	}
	rows, err := o.Store.LiveVMs(o.whole, o.Provider)
	if err != nil {
		return found, note(err)
	}
	// Of several machines of one VM, the one that it is known to be is to stay.
	slices.SortStableFunc(things, func(a, b provision.Thing) int { return ofRow(rows, b) - ofRow(rows, a) })
	taken := map[string]bool{} // addresses
	for _, t := range things {
		id, held := o.plan.Knows(t.Address)
		row, live := rows[t.Hostname]
		switch {
		case held && (id == t.ID || t.Hostname == ""), t.ID == "" && o.there[t.Hostname], o.ended[t.ID]:
			continue
		case t.Hostname == "" && t.Foreign && o.workspace.Adoptable(t):
			return found, fmt.Errorf("nothing was changed: there already is %s, which this LabLink has not made. "+
				"If another LabLink uses this account, give one of them another ENVIRONMENT; else remove it", t.What)
		case t.Foreign:
			o.unknown[t.Hostname+" ("+t.What+" of another LabLink)"] = true
			continue
		case t.Hostname == "":
			if o.workspace.Adoptable(t) && !taken[t.Address] {
				taken[t.Address] = true
				found.adopt = append(found.adopt, t)
			}
			continue
		case t.Useless:
			o.end(&found, t)
			continue
		case live && row.Creation != fleet.CreationFailed && !o.clearing(t.Hostname):
			switch {
			case held && row.Machine == t.ID:
				// Somebody may use it. What Terraform's state holds may be as good.
				o.recorder.line(t.Hostname + ": " + t.What + " is this VM's, but Terraform's state holds another one, " + id + ".")
				o.unknown[t.Hostname+" ("+t.What+", of which Terraform's state holds another)"] = true
			case held || taken[t.Address]:
				o.end(&found, t) // another machine is this VM
			case o.wants[t.Hostname] && o.workspace.Adoptable(t):
				taken[t.Address] = true
				found.adopt = append(found.adopt, t)
			default:
				o.recorder.line(t.Hostname + ": " + t.What + " is there, although Terraform's state does not know it.")
			}
			continue
		}
		gone, err := o.Store.WasDestroyed(o.whole, o.Provider, t.Hostname)
		if err != nil {
			return found, note(err)
		}
		if live || gone {
			o.end(&found, t)
		} else {
			o.unknown[t.Hostname] = true
		}
	}
	return found, nil
}

// end notes that a thing is to end.
func (o *run) end(found *survey, t provision.Thing) {
	found.end = append(found.end, t)
	o.leftover[t.Hostname] = true
}

// ofRow is 1 for a machine that a row names.
func ofRow(rows map[string]store.Target, t provision.Thing) int {
	if row, live := rows[t.Hostname]; live && row.Machine == t.ID && t.ID != "" {
		return 1
	}
	return 0
}

// clearing reports whether what there is of a VM is to be removed, so that it
// can be made afresh.
func (o *run) clearing(hostname string) bool { return o.isTarget(hostname) && !o.wants[hostname] }

// sweep ends what is left of VMs that are not wanted, and that Terraform's state
// does not know. It returns the VMs of which something could not be ended; why, is
// in reasons.
func (o *run) sweep(ctx context.Context) (left []string, err error) {
	found, err := o.survey(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range found.end {
		if err := o.workspace.Provider.Cloud.End(ctx, t); err != nil {
			if ctx.Err() != nil {
				return left, err
			}
			o.there[t.Hostname], o.reasons[t.Hostname] = true, err.Error()
			o.recorder.line(err.Error())
			left = append(left, t.Hostname)
			continue
		}
		if t.ID != "" {
			o.ended[t.ID] = true
		}
		o.recorder.line(t.Hostname + ": " + t.What + " is ended, because Terraform's state does not know it.")
	}
	return left, nil
}
