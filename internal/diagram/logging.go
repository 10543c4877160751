package diagram

import "lablink/internal/wire"

// logging is how lines come from a VM to the admin's page. The way through
// CloudWatch is drawn if the Terraform files make it.
func logging(p *Picture, c *content) error {
	post, page := "POST "+wire.PathLogs, "GET /admin/logs/{hostname}/events"
	if err := c.exist(post, page); err != nil {
		return err
	}
	p.Title = "LabLink: from a machine's output to the admin's page"
	p.Groups = []Group{{ID: "vm", Title: "Client VM", Detail: machine(c.VMs)}}
	p.Nodes = []Node{
		{ID: "container", In: "vm", Title: "Container", Lines: []string{"what it prints"}, Shape: Program},
		{ID: "agent", In: "vm", Title: "lablink agent", Lines: []string{"follows its container", "and files"}, Shape: Program},
	}
	groups, filters, processors, cloud := c.cloudLogs()
	if cloud {
		p.Groups = append(p.Groups, Group{ID: "cloud", Title: "AWS", If: commonIf(filters)})
		p.Nodes = append(p.Nodes,
			Node{ID: "group", In: "cloud", Title: "CloudWatch Logs", Lines: named(groups), Shape: Store, If: commonIf(groups)},
			Node{ID: "filter", In: "cloud", Title: "Subscription filter", Lines: append(named(filters), "chooses everything"), Shape: Program, If: commonIf(filters)},
			Node{ID: "processor", In: "cloud", Title: "Log processor", Lines: named(processors), Shape: Program, If: commonIf(processors)})
		p.line("container", "group", "Docker's driver awslogs: PutLogEvents", Write, commonIf(groups))
		p.line("group", "filter", "hands on what is new", Notify, commonIf(filters))
		p.line("filter", "processor", "invokes it, gzip", Run, commonIf(filters))
		p.line("processor", "allocator", post+", with its token", Request, commonIf(filters))
		if queue := c.Allocator.Find(queues...); len(queue) > 0 {
			lines := append(named(queue), "what could not be", "delivered for hours")
			p.Nodes = append(p.Nodes, Node{ID: "queue", In: "cloud", Title: "Queue", Lines: lines, Shape: Store, If: commonIf(queue)})
			p.line("processor", "queue", "gives up", Write, commonIf(queue))
		}
	}
	p.line("agent", "allocator", post+", every half second"+otherwise(cloud), Request, "")
	p.line("allocator", "database", "INSERT INTO vm_logs: every line once, without secrets", Write, "")
	p.line("allocator", "admin", "the log's page, live ("+page+")", Answer, "")
	p.Groups = append(p.Groups, Group{ID: "lablink", Title: "LabLink", Detail: machine(c.Allocator)})
	p.Nodes = append(p.Nodes,
		Node{ID: "allocator", In: "lablink", Title: "Allocator", Lines: []string{"lablink serve"}, Shape: Program},
		Node{ID: "database", In: "lablink", Title: "PostgreSQL", Lines: []string{"vm_logs"}, Shape: Store},
		Node{ID: "admin", Title: "Admin", Shape: Person})
	return nil
}

func otherwise(cloud bool) string {
	if cloud {
		return ": what does not go by CloudWatch"
	}
	return ""
}
