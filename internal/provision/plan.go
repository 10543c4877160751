package provision

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	tfjson "github.com/hashicorp/terraform-json"
)

// Plan is what Terraform intends, as far as VMs are concerned. An address
// belongs to the VM whose hostname is a key in it; one without such a key is
// shared by all.
type Plan struct {
	isVM   func(key string) bool
	vms    map[string]planned
	shared []string          // addresses of no VM that would be destroyed
	known  map[string]string // what the state holds: ids by address
	empty  bool              // nothing is to be changed, not even outputs
}

// planned is what would become of one VM's resources.
type planned struct {
	makes   int  // how many would be made; one that is replaced is made, too
	deletes int  // how many would be destroyed
	forgets bool // one would stay, and Terraform know nothing of it any more
	updates bool // one would be changed in place
	exists  bool // one is there already
	stays   bool // one would be there afterwards
}

// keyPattern finds the string keys in an address such as
// module.vm["a-1"].aws_instance.this[0].
var keyPattern = regexp.MustCompile(`\["((?:[^"\\]|\\.)*)"\]`)

// hostnameIn returns the VM to which an address belongs, "" if there is none.
func (p *Plan) hostnameIn(address string) string {
	for _, m := range keyPattern.FindAllStringSubmatch(address, -1) {
		if p.isVM(m[1]) { // no hostname has anything that would be escaped
			return m[1]
		}
	}
	return ""
}

// newPlan reads a plan for the VMs that shall exist. A key is a VM's hostname if
// it is among them, if isVM says so, or if the module's output listed it.
func newPlan(p *tfjson.Plan, vms map[string]VM, isVM func(key string) bool) (*Plan, error) {
	listed := map[string]any{}
	if o := p.OutputChanges[outputVMs]; o != nil {
		listed, _ = o.Before.(map[string]any) // nil before the first apply
	}
	vms = maps.Clone(vms) // what the caller does with it later is about another plan
	plan := &Plan{vms: map[string]planned{}, known: map[string]string{}, empty: true, isVM: func(key string) bool {
		_, wanted := vms[key]
		_, known := listed[key]
		return wanted || known || isVM(key)
	}}
	for _, o := range p.OutputChanges {
		plan.empty = plan.empty && o.Actions.NoOp()
	}
	for _, c := range p.ResourceChanges {
		if c.Mode != tfjson.ManagedResourceMode {
			continue
		}
		if isNumbered(c) {
			return nil, fmt.Errorf("nothing was changed: Terraform's state holds %s, a VM of the Python LabLink, which numbers its VMs: "+
				"destroy them there first, or give this LabLink another state (environment or bucket_name)", c.Address)
		}
		plan.add(c)
	}
	for name := range vms {
		if vm := plan.vms[name]; !vm.exists && vm.makes == 0 {
			return nil, fmt.Errorf("nothing was changed: the module makes nothing for %s. "+
				"Each VM must be an instance of a for_each over var.%s, so that its hostname is the key, see docs/provisioning.md", name, varVMs)
		}
	}
	return plan, nil
}

// isNumbered tells VMs of the Python system, which would be destroyed, and which
// are nobody's here. Its state may be the one we are to use.
func isNumbered(c *tfjson.ResourceChange) bool {
	_, number := c.Index.(float64)
	return number && c.ModuleAddress == "" && c.Type == "aws_instance" && c.Name == "lablink_vm" && !c.Change.Actions.Create()
}

func (p *Plan) add(c *tfjson.ResourceChange) {
	actions := c.Change.Actions
	// A move or an import changes nothing but the state.
	p.empty = p.empty && actions.NoOp() && c.PreviousAddress == "" && c.Change.Importing == nil
	makes := slices.Contains(actions, tfjson.ActionCreate)
	deletes, forgets := slices.Contains(actions, tfjson.ActionDelete), slices.Contains(actions, tfjson.ActionForget)
	if !actions.Create() && c.DeposedKey == "" {
		before, _ := c.Change.Before.(map[string]any)
		p.known[c.Address], _ = before["id"].(string)
	}
	hostname := p.hostnameIn(c.Address)
	if hostname == "" {
		if deletes || forgets {
			p.shared = append(p.shared, c.Address)
		}
		return
	}
	vm := p.vms[hostname]
	if makes {
		vm.makes++
	}
	if deletes {
		vm.deletes++
	}
	vm.forgets = vm.forgets || forgets
	vm.updates = vm.updates || slices.Contains(actions, tfjson.ActionUpdate)
	vm.exists = vm.exists || !actions.Create()
	vm.stays = vm.stays || makes || !deletes
	p.vms[hostname] = vm
}

// Empty reports whether there is nothing to do.
func (p *Plan) Empty() bool { return p.empty }

// Creates reports whether something of a VM is to be made.
func (p *Plan) Creates(hostname string) bool { return p.vms[hostname].makes > 0 }

// Deletes reports whether something of a VM is to be destroyed, or is to be
// forgotten by Terraform.
func (p *Plan) Deletes(hostname string) bool {
	return p.vms[hostname].deletes > 0 || p.vms[hostname].forgets
}

// Exists reports whether something of a VM is there already.
func (p *Plan) Exists(hostname string) bool { return p.vms[hostname].exists }

// VMs returns every VM that the plan speaks of.
func (p *Plan) VMs() []string { return slices.Sorted(maps.Keys(p.vms)) }

// Knows reports whether Terraform's state holds an address, and with which id.
func (p *Plan) Knows(address string) (id string, yes bool) {
	id, yes = p.known[address]
	return id, yes
}

// Touches reports whether a VM that is there would become another.
func (p *Plan) Touches(hostname string) bool {
	vm := p.vms[hostname]
	return p.Deletes(hostname) || vm.updates || vm.exists && vm.makes > 0
}

// Unasked returns what the plan would change, destroy or forget although nobody
// asked for it: VMs that asked does not name, and resources that belong to no VM
// and would be destroyed while VMs remain that may need them.
func (p *Plan) Unasked(asked func(hostname string) bool, remain bool) []string {
	var names []string
	for name := range p.vms {
		if p.Touches(name) && !asked(name) {
			names = append(names, name)
		}
	}
	if remain {
		names = append(names, p.shared...)
	}
	slices.Sort(names)
	return slices.Compact(names) // one address may have several objects
}
