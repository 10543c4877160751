package diagram

import (
	"fmt"
	"time"

	"lablink/internal/wire"
)

// What participants open at Google.
const (
	headlessPage = "remotedesktop.google.com/headless"
	accessPage   = "remotedesktop.google.com/access"
)

// connection is how a participant gets a desktop. It is a sequence: what counts
// is who waits for whom.
func connection(p *Picture, c *content) error {
	trigger, err := c.schema.notifier("vms", "crdcommand")
	if err != nil {
		return err
	}
	poll, request, result, page := "POST "+wire.PathStartup, "POST /api/request_vm", "POST "+wire.PathCRDResult, "GET /seat/events"
	if err := c.exist(poll, request, result, page); err != nil {
		return err
	}
	p.Title, p.Sequence = "LabLink: from a one-time code to a desktop", true
	p.Groups = []Group{
		{ID: "allocator", Title: "Allocator", Detail: machine(c.Allocator)},
		{ID: "database", Title: "PostgreSQL"},
		{ID: "vm", Title: "Client VM", Detail: machine(c.VMs)},
	}
	p.Nodes = []Node{
		{ID: "google", Title: "Google", Lines: []string{"Chrome", "Remote Desktop"}, Shape: Outside},
		{ID: "researcher", Title: "Researcher", Lines: []string{"in a browser"}, Shape: Person},
		{ID: "page", In: "allocator", Title: "Web page", Shape: Program},
		{ID: "api", In: "allocator", Title: "API", Lines: []string{"lablink serve"}, Shape: Program},
		{ID: "vms", In: "database", Title: "vms", Lines: []string{"table"}, Shape: Store},
		{ID: "trigger", In: "database", Title: "Trigger", Lines: []string{trigger.Name}, Shape: Program},
		{ID: "channel", In: "database", Title: trigger.Channels[0], Lines: []string{"channel"}, Shape: Program},
		{ID: "boot", In: "vm", Title: "Cloud-init", Shape: Program},
		{ID: "agent", In: "vm", Title: "lablink agent", Shape: Program},
		{ID: "host", In: "vm", Title: "start-host", Lines: []string{"Google's program"}, Shape: Program},
	}
	p.Bands = []Band{
		{"1 Get a code", 1}, {"2 The VM waits", 3}, {"3 Hand the code over", 5}, {"4 Set the desktop up", 12}, {"5 Use it", 16},
	}
	p.line("researcher", "google", "opens "+headlessPage, Request, "")
	p.line("google", "researcher", "a command with a one-time code", Answer, "")
	p.line("boot", "agent", "the VM boots, the agent starts", Run, "")
	p.line("agent", "api", poll+", held up to "+days(c.MaxWait), Held, "")
	p.line("researcher", "page", "pastes the command, with an e-mail address", Request, "")
	p.line("page", "api", request, Request, "")
	p.line("api", "vms", "UPDATE vms SET crdcommand, pin: one free VM", Write, "")
	p.line("vms", "trigger", trigger.When, Notify, "")
	p.line("trigger", "channel", "pg_notify, at the commit", Notify, "")
	p.line("channel", "api", "wakes whoever holds this VM's call", Notify, "")
	p.line("api", "agent", "200 with command and PIN: the answer to 4", Held, "")
	p.line("agent", "host", "runs it, PIN on standard input", Run, "")
	p.line("host", "google", "registers the VM, with the code", Request, "")
	p.line("agent", "api", result+": connected", Request, "")
	p.line("api", "researcher", "the page says Ready ("+page+")", Answer, "")
	p.line("researcher", "google", "opens "+accessPage+", clicks the VM, types the PIN", Request, "")
	p.line("google", "researcher", "the desktop", Answer, "")
	p.Waits = []Wait{
		{"agent", 4, 11, "waits: " + days(c.MaxWait) + " if need be"},
		{"api", 4, 11, ""},
		{"researcher", 6, 15, "waits: 10 to 60 s"},
	}
	return nil
}

// days writes a time for people.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.String()
}
