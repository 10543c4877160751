package jobs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"lablink/internal/provision"
)

// places are where one VM may be made, in the order in which they are tried.
type places struct {
	all   []provision.VM
	at    int      // the one that is tried, or was last
	tried []string // what was said of those that had no room
	full  bool     // none is left to be tried
}

func (p *places) current() provision.VM { return p.all[p.at] }

// name tells a place from the others of the same VM.
func name(vm provision.VM) string {
	if vm.Zone == "" {
		return vm.InstanceType
	}
	return vm.InstanceType + " in " + vm.Zone
}

// findPlaces asks the cloud where the targets can be made. Neighbours begin in
// different zones, so that a class does not ask for all its machines in one.
func (o *run) findPlaces(ctx context.Context) error {
	o.places = map[string]*places{}
	known := map[string][]provision.VM{} // by type
	for i, hostname := range o.alive() {
		spec := o.spec(o.targets[hostname])
		all := []provision.VM{spec}
		if cloud := o.workspace.Provider.Cloud; cloud != nil {
			var err error
			if known[spec.InstanceType] == nil {
				if known[spec.InstanceType], err = cloud.Places(ctx, spec.InstanceType); err != nil {
					return err
				}
			}
			all = rotated(known[spec.InstanceType], i)
		}
		o.places[hostname] = &places{all: all}
	}
	return nil
}

// alive are the targets that nobody has destroyed, in a constant order.
func (o *run) alive() []string {
	var hostnames []string
	for hostname, t := range o.targets {
		if t.Live {
			hostnames = append(hostnames, hostname)
		}
	}
	slices.Sort(hostnames)
	return hostnames
}

// rotated has each type begin n places later.
func rotated(all []provision.VM, n int) []provision.VM {
	var out []provision.VM
	for len(all) > 0 {
		same := 1
		for same < len(all) && all[same].InstanceType == all[0].InstanceType {
			same++
		}
		first := n % same
		out = append(append(out, all[first:same]...), all[:first]...)
		all = all[same:]
	}
	return out
}

// moveOn turns to the next place of each target that found no room in its own,
// and reports whether there is one to be tried.
func (o *run) moveOn() bool {
	again, cloud := false, o.workspace.Provider.Cloud
	for _, hostname := range o.alive() {
		p, reason := o.places[hostname], o.reasons[hostname]
		if o.done[hostname] || cloud == nil || p.full {
			continue
		}
		full, everywhere := cloud.Full(reason)
		if !full {
			continue
		}
		next := p.at + 1
		for everywhere && next < len(p.all) && p.all[next].InstanceType == p.current().InstanceType {
			next++
		}
		p.tried = append(p.tried, name(p.current())+": "+reason)
		if p.full = next == len(p.all); p.full {
			if len(p.all) > 1 {
				o.reasons[hostname] = "There is no room anywhere that LabLink may use.\n" + strings.Join(p.tried, "\n")
			}
			continue
		}
		o.recorder.line(fmt.Sprintf("%s: no room for %s; %s is next.", hostname, name(p.current()), name(p.all[next])))
		p.at, again = next, true
		delete(o.reasons, hostname)
	}
	return again
}

// notePlaces tells of VMs that are not where they were to be at first.
func (o *run) notePlaces() error {
	var ids []int64
	var notes []string
	for hostname, p := range o.places {
		if o.done[hostname] && len(p.tried) > 0 {
			ids = append(ids, o.targets[hostname].ID)
			notes = append(notes, "Made as "+name(p.current())+", because others had no room.\n"+strings.Join(p.tried, "\n"))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if err := o.recorder.flush(o.whole); err != nil {
		return note(err)
	}
	return note(o.claim.Note(o.whole, ids, notes))
}
