package demo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// narrate tells what happens, and what to do next, until ctx ends.
func (d *demo) narrate(ctx context.Context) error {
	d.say(`
What to do now
  Phase 1  At Google you would get a command on remotedesktop.google.com/headless.
           Here Google is simulated. Take this one; it works once:

  %s

  Phase 3  Open %s, type any e-mail address, paste the command.
           Any other code that starts with 4/ works too; one with "expired" in it
           fails, as a code does that is too old, and "slow" takes its time.
  Watch    %s/admin/instances as the organiser.
  Stop     with Ctrl-C. Everything is removed again.
`, fleet.CommandFor(d.code), d.url, d.url)

	told := map[int64]time.Time{} // by VM, how far its history is told
	vms, _, err := d.store.VMs(ctx, store.VMFilter{})
	if err != nil {
		return err
	}
	for _, v := range vms {
		told[v.ID] = time.Now()
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			d.say("\nStopping; cleaning up ...")
			return nil
		case err := <-d.stopped:
			d.stopped <- err
			return fmt.Errorf("the allocator ended: %w", err)
		case hostname := <-d.gone:
			d.say("The agent of %s ended; its log is %s/agent.log", hostname, d.home(hostname))
			continue
		case <-tick.C:
		}
		if err := d.tell(ctx, told); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// tell prints the lines of each VM's history that are new.
func (d *demo) tell(ctx context.Context, told map[int64]time.Time) error {
	vms, _, err := d.store.VMs(ctx, store.VMFilter{})
	if err != nil {
		return err
	}
	for _, v := range vms {
		events, err := d.store.Events(ctx, v.ID, 20)
		if err != nil {
			return err
		}
		for _, e := range slices.Backward(events) {
			if !e.At.After(told[v.ID]) {
				continue
			}
			told[v.ID] = e.At
			d.say("%s  %-12s %s%s", e.At.Local().Format(time.TimeOnly), v.Hostname, e.What, hint(e, v))
		}
	}
	return nil
}

// hint says which phase an event belongs to, and what comes next.
func hint(e fleet.Event, v fleet.VM) string {
	switch e.What {
	case "seat requested":
		return " by " + e.Detail + " (phase 3)"
	case "code delivered":
		return ": the held request has answered, the VM runs start-host (phase 4)"
	case "connected":
		return ": the seat page says so. At Google, " + v.Hostname + " would now be on remotedesktop.google.com/access (phase 5)"
	case "set-up failed":
		return ": " + e.Detail
	}
	return ""
}
