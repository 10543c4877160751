package diagram

import (
	"slices"

	"lablink/internal/tffiles"
	"lablink/internal/wire"
)

// provisioning is how VMs come into being.
func provisioning(p *Picture, c *content) error {
	launch, status, metrics, poll := "POST /api/launch", "POST "+wire.PathStatus, "POST "+wire.PathMetrics+"{hostname}", "POST "+wire.PathStartup
	if err := c.exist(launch, status, metrics, poll); err != nil {
		return err
	}
	p.Title = "LabLink: from a number to VMs that wait"
	p.Groups = []Group{
		{ID: "lablink", Title: "LabLink", Detail: machine(c.Allocator)},
		{ID: "cloud", Title: "What Terraform makes", Detail: c.VMs.Name},
		{ID: "start", Title: "Start-up of each VM, in three phases"},
	}
	var each, once []tffiles.Resource
	for _, r := range c.VMs.Resources {
		if r.Each != "" || slices.Contains(machines, r.Type) {
			each = append(each, r)
		} else {
			once = append(once, r)
		}
	}
	made := listed(each)
	if len(made) == 0 {
		made = []string{machine(c.VMs)}
	}
	p.Nodes = []Node{
		{ID: "admin", Title: "Admin", Shape: Person},
		{ID: "allocator", In: "lablink", Title: "Allocator", Lines: []string{"lablink serve"}, Shape: Program},
		{ID: "database", In: "lablink", Title: "PostgreSQL", Lines: []string{"operations, vms"}, Shape: Store},
		{ID: "terraform", In: "lablink", Title: "Terraform", Lines: []string{"or OpenTofu"}, Shape: Program},
		{ID: "vm", In: "cloud", Title: "Client VM", Lines: made, Shape: Program},
		{ID: "init", In: "start", Title: "1 Cloud-init", Lines: []string{"Docker, GPU"}, Shape: Program},
		{ID: "container", In: "start", Title: "2 Container", Lines: []string{"image pulled and started"}, Shape: Program},
		{ID: "agent", In: "start", Title: "3 Agent", Lines: []string{"startup script, then", "lablink agent"}, Shape: Program},
	}
	p.line("admin", "allocator", launch, Request, "")
	p.line("allocator", "database", "the operation and a row for each VM, in one transaction; later what the VMs report", Write, "")
	p.line("allocator", "terraform", "plan, which is checked, then apply", Run, "")
	p.line("terraform", "vm", "makes every VM", Run, "")
	if len(once) > 0 {
		p.Nodes = append(p.Nodes, Node{ID: "once", In: "cloud", Title: "Shared by all VMs", Lines: listed(once), Shape: Outside})
		p.line("terraform", "once", "makes what they share, at the first launch", Run, "")
	}
	p.line("vm", "init", "boots", Run, "")
	p.line("init", "container", "starts the client's container", Run, "")
	p.line("container", "agent", "starts the agent", Run, "")
	p.back("agent", "allocator", status+": running; "+metrics+": times of the three phases", Request, "")
	p.back("agent", "allocator", poll+": the VM waits", Held, "")
	return nil
}
