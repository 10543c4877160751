package demo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// watchedOperations is how many of the newest operations are looked at.
const watchedOperations = 50

// narrator remembers what was told.
type narrator struct {
	*demo
	vms   map[int64]time.Time // how far a VM's history is told
	begun map[int64]bool      // operations
	over  map[int64]bool
}

// narrate tells what happens, and what to do next, until ctx ends.
func (d *demo) narrate(ctx context.Context) error {
	n := &narrator{demo: d, vms: map[int64]time.Time{}, begun: map[int64]bool{}, over: map[int64]bool{}}
	if _, err := n.news(ctx); err != nil { // what the demo did itself is told already
		return err
	}
	d.say(`
What to do now
  Phase 1  At Google you would get a command on remotedesktop.google.com/headless.
           Here Google is simulated. Take this one; it works once:

  %[1]s

  Phase 3  Open %[2]s, type any e-mail address, paste the command.
           Any other code that starts with 4/ works too; one with "expired" in it
           fails, as a code does that is too old, and "slow" takes its time.
  Watch    %[2]s/admin/instances as the organiser.
  Logs     What a VM writes, live: %[2]s/admin/logs/lablink-client-1
  Launch   Ask for five more VMs at %[2]s/admin/create;
           the page of the operation shows how Terraform makes them.
  Destroy  One VM or all of them, at %[2]s/admin/instances/delete.
           Whoever has one of the others notices nothing.
  Stop     with Ctrl-C. Terraform destroys all VMs, and everything is removed.
`, fleet.CommandFor(d.code), d.url)

	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-d.stopped:
			d.stopped <- err
			return fmt.Errorf("the allocator ended: %w", err)
		case <-tick.C:
		}
		lines, err := n.news(ctx)
		if err != nil {
			return err
		}
		for _, l := range lines {
			d.say("%s  %-17s %s", l.at.Local().Format(time.TimeOnly), l.who, l.what)
		}
	}
}

// line is one line of the story.
type line struct {
	at        time.Time
	who, what string
}

// news returns what has happened since it was last called, in its order.
func (n *narrator) news(ctx context.Context) ([]line, error) {
	ops, err := n.store.Operations(ctx, watchedOperations)
	if err != nil {
		return nil, err
	}
	vms, _, err := n.store.VMs(ctx, store.VMFilter{})
	if err != nil {
		return nil, err
	}
	hostnames := map[int64]string{}
	for _, v := range vms {
		hostnames[v.ID] = v.Hostname
	}
	var lines []line
	for _, op := range ops {
		for _, s := range op.Steps {
			if !n.over[op.ID] {
				hostnames[s.VM] = s.Hostname // one that is destroyed is in no other list
			}
		}
		lines = append(lines, n.operation(op)...)
	}
	for id, hostname := range hostnames {
		events, err := n.store.Events(ctx, id, 20)
		if err != nil {
			return nil, err
		}
		for _, e := range slices.Backward(events) {
			if !e.At.After(n.vms[id]) {
				continue
			}
			n.vms[id] = e.At
			if what := words(e, hostname); what != "" {
				lines = append(lines, line{e.At, hostname, what})
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	return lines, nil
}

// operation tells when an operation has begun, and how it has ended.
func (n *narrator) operation(op fleet.Operation) (lines []line) {
	who := fmt.Sprintf("operation %d", op.ID)
	if !n.begun[op.ID] && !op.Started.IsZero() {
		n.begun[op.ID] = true
		verb := map[fleet.OperationKind]string{fleet.KindLaunch: "make", fleet.KindDestroy: "destroy"}[op.Kind]
		lines = append(lines, line{op.Started, who, fmt.Sprintf("Terraform begins to %s %s: %s/admin/operations/%d",
			verb, counted(len(op.Steps)), n.url, op.ID)})
	}
	if !n.over[op.ID] && op.State.Final() {
		n.over[op.ID] = true
		what := fmt.Sprintf("%s after %.1f s: %d of %s done", op.State, op.Ended.Sub(op.Started).Seconds(), op.Count(fleet.StepDone), counted(len(op.Steps)))
		if op.Error != "" {
			what += "; " + op.Error
		}
		lines = append(lines, line{op.Ended, who, what})
	}
	return lines
}

// words tells an event of a VM: what it was, which phase it belongs to, and what
// comes next. It returns "" for what is not worth a line, or is said of the
// operation.
func words(e fleet.Event, hostname string) string {
	switch e.What {
	case "launch asked for", "destroy asked for", "GPU N/A":
		return ""
	case "seat requested":
		return e.What + " by " + e.Detail + " (phase 3)"
	case "code delivered":
		return e.What + ": the held request has answered, the VM runs start-host (phase 4)"
	case "connected":
		return e.What + ": the seat page says so. At Google, " + hostname + " would now be on remotedesktop.google.com/access (phase 5)"
	case "set-up failed", "launch failed", "destroy failed":
		return e.What + ": " + e.Detail
	}
	return e.What
}
