package diagram

import (
	"slices"

	"lablink/internal/tffiles"
	"lablink/internal/wire"
)

// architecture is everything at once: who talks to whom, and which resources of
// the Terraform files that is.
func architecture(p *Picture, c *content) error {
	request, poll, post, launch := "POST /api/request_vm", "POST "+wire.PathStartup, "POST "+wire.PathLogs, "POST /api/launch"
	if err := c.exist(request, poll, post, launch); err != nil {
		return err
	}
	p.Title = "LabLink: architecture"
	p.Groups = []Group{
		{ID: "people", Title: "People"},
		{ID: "allocator", Title: "Allocator", Detail: machine(c.Allocator)},
		{ID: "vms", Title: "Client VMs", Detail: machine(c.VMs)},
	}
	p.Nodes = []Node{
		{ID: "participant", In: "people", Title: "Participant", Shape: Person},
		{ID: "admin", In: "people", Title: "Admin", Shape: Person},
	}
	front := entrance(p, c.Allocator)
	kept := append([]string{"VMs, seats, logs"}, named(c.Allocator.Find(slices.Concat(databases, disks)...))...)
	p.Nodes = append(p.Nodes,
		Node{ID: "serve", In: "allocator", Title: "lablink serve", Lines: []string{"pages, API, held calls"}, Shape: Program},
		Node{ID: "database", In: "allocator", Title: "PostgreSQL", Lines: kept, Shape: Store},
		Node{ID: "terraform", In: "allocator", Title: "Terraform", Lines: []string{"or OpenTofu"}, Shape: Program},
		Node{ID: "vm", In: "vms", Title: "Client VM", Lines: append([]string{"desktop, lablink agent"}, listed(c.VMs.Find(addresses...))...), Shape: Program},
		Node{ID: "google", Title: "Google", Lines: []string{"Chrome Remote Desktop"}, Shape: Outside})
	p.line("participant", front, request, Request, "")
	p.line("admin", front, launch, Request, "")
	if front != "serve" {
		p.line("front", "serve", "HTTPS", Request, "")
	}
	p.line("serve", "database", "SQL, LISTEN", Write, "")
	p.line("serve", "terraform", "plan, apply", Run, "")
	p.line("terraform", "vm", "makes, destroys", Run, "")
	p.back("vm", "serve", poll, Held, "")
	p.line("vm", "google", "the desktop", Request, "")
	logs, filters, processors, whole := c.cloudLogs()
	if len(logs) > 0 {
		p.Groups = append(p.Groups, Group{ID: "logs", Title: "Logs"})
		p.Nodes = append(p.Nodes, Node{ID: "log group", In: "logs", Title: "CloudWatch Logs", Lines: named(logs), Shape: Store, If: commonIf(logs)})
		p.line("vm", "log group", "output", Write, commonIf(logs))
	}
	if whole {
		p.Nodes = append(p.Nodes, Node{ID: "processor", In: "logs", Title: "Log processor", Lines: named(processors), Shape: Program, If: commonIf(processors)})
		p.line("log group", "processor", named(filters)[0], Run, commonIf(filters))
		p.back("processor", "serve", post, Request, commonIf(filters))
	}
	aside(p, "around", "Rules and rights of the allocator", c.Allocator, slices.Concat(rules, keys, rights, states))
	aside(p, "around vms", "Rules and rights of the VMs", c.VMs, slices.Concat(rules, keys, rights, states))
	return nil
}

// entrance adds what requests come through before they reach the program, and
// returns the node that they reach first.
func entrance(p *Picture, f *tffiles.Folder) string {
	found := f.Find(slices.Concat(domains, certificates, balancers, addresses)...)
	if len(found) == 0 {
		return "serve"
	}
	lines := listed(found)
	if commonIf(found) != "" {
		lines = named(found) // the box tells the condition
	}
	p.Nodes = append(p.Nodes, Node{ID: "front", In: "allocator", Title: "Entrance", Lines: lines, Shape: Program, If: commonIf(found)})
	return "front"
}

// aside adds a box of resources that nothing flows through.
func aside(p *Picture, id, title string, f *tffiles.Folder, types []string) {
	if found := f.Find(types...); len(found) > 0 {
		p.Nodes = append(p.Nodes, Node{ID: id, Title: title, Lines: listed(found), Shape: Outside})
	}
}
