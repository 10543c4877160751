package cli_test

import (
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lablink/internal/agent/simhost"
	"lablink/internal/testkit"
)

// launched is how many VMs are asked for: more than Terraform makes at once.
const launched = 14

// halfLaunched asks for VMs, and returns when three are there, three more have an
// agent of which Terraform does not know yet, and all others are under way or not
// begun.
func (s *site) halfLaunched(c *client) (id int64) {
	s.t.Helper()
	s.let("start.before", 6)
	s.let("start.after", 3)
	id = c.launch(launched).ID
	testkit.Eventually(s.t, "half a launch", func() bool {
		op := c.operation(id)
		return len(op.Hostnames("done")) == 3 && len(op.Hostnames("running")) == 10 && len(s.agents()) == 6
	})
	return id
}

// Whenever and whatever is killed during a launch: the next server ends it, with
// exactly the VMs that were asked for. A participant who has one already keeps it.
func TestServe_KilledDuringALaunch(t *testing.T) {
	t.Parallel()
	for name, postgresToo := range map[string]bool{"server": false, "server and PostgreSQL": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p, c := s.serve()
			id := s.halfLaunched(c)
			ada := s.participant(c)
			home := filepath.Join(s.data(), "machines", ada.hostname)
			testkit.Eventually(t, "a desktop", func() bool { return simhost.Access(home, ada.hostname, ada.pin) == nil })
			left := s.killed(p, postgresToo)

			next, c := s.serve()
			next.resumes(id)
			s.ended("what the killed run left", left) // nobody else ends it: the gates are closed
			s.open("start.before", "start.after")
			c.ends(id, "succeeded", launched)
			s.fleetIs(c, hostnames(1, launched))
			before := *ada
			if status := ada.ask(t.Context(), c); status != http.StatusOK || *ada != before {
				t.Errorf("the participant had %s, and is answered %d, %s", before.hostname, status, ada.hostname)
			}
			if err := simhost.Access(home, ada.hostname, ada.pin); err != nil {
				t.Errorf("the participant's desktop: %v", err)
			}
			s.goesOn(next, c, launched)
		})
	}
}

// killed kills the server, and PostgreSQL with it, and returns what is left of
// Terraform.
func (s *site) killed(p *proc, postgresToo bool) []process {
	s.t.Helper()
	postgres := 0
	if postgresToo {
		postgres = postgresPID(s.t, s.data())
	}
	killed(p, postgres)
	left := s.terraform()
	if len(left) == 0 {
		s.t.Error("nothing is left of the killed run, so that there is nothing to clean up")
	}
	return left
}

// goesOn fails if anything is in the way of further operations, or left after
// the last. live are the VMs that there are.
func (s *site) goesOn(p *proc, c *client, live int) {
	s.t.Helper()
	s.open("stop.before", "stop.after")
	s.fleetHas(c, live)
	c.ends(c.launch(1).ID, "succeeded", 1)
	s.fleetHas(c, live+1)
	c.ends(c.destroyAll(live+1).ID, "succeeded", live+1)
	s.fleetIs(c, nil)
	s.stops(p)
	if left := processesOf(s.t, s.dir); len(left) > 0 {
		s.t.Errorf("processes are left: %v", left)
	}
}

// fleetHas waits until so many agents are there, one for each VM.
func (s *site) fleetHas(c *client, n int) {
	s.t.Helper()
	statuses := c.statuses()
	if len(statuses) != n {
		s.t.Errorf("there should be %d VMs, there are %v", n, statuses)
	}
	s.fleetIs(c, slices.Sorted(maps.Keys(statuses)))
}

// The same for a destroy: what nobody asked to destroy does not even notice.
func TestServe_KilledDuringADestroy(t *testing.T) {
	t.Parallel()
	for name, postgresToo := range map[string]bool{"server": false, "server and PostgreSQL": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p, c := s.serve()
			s.open("start.before", "start.after")
			c.ends(c.launch(launched).ID, "succeeded", launched)
			s.fleetIs(c, hostnames(1, launched))
			kept, doomed := hostnames(1, 2), hostnames(3, launched)
			keptAgents := s.agents()
			maps.DeleteFunc(keptAgents, func(h string, _ []int) bool { return !slices.Contains(kept, h) })

			s.let("stop.before", 6)
			s.let("stop.after", 3)
			id := c.ask("/destroy", map[string]any{"hostnames": doomed}).ID
			testkit.Eventually(t, "half a destroy", func() bool {
				return len(c.operation(id).Hostnames("done")) == 3 && len(s.agents()) == launched-6
			})
			left := s.killed(p, postgresToo)

			next, c := s.serve()
			next.resumes(id)
			s.ended("what the killed run left", left)
			s.open("stop.before", "stop.after")
			c.ends(id, "succeeded", len(doomed))
			s.fleetIs(c, kept)
			if now := s.agents(); !maps.EqualFunc(now, keptAgents, slices.Equal) {
				t.Errorf("the agents that nobody asked to end were %v, are %v", keptAgents, now)
			}
			s.goesOn(next, c, len(kept))
		})
	}
}

// A server that is told to stop has Terraform end in order, and the next one
// goes on.
func TestServe_StoppedDuringALaunch(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p, c := s.serve()
	id := s.halfLaunched(c)
	s.stops(p)
	if left := s.terraform(); len(left) > 0 {
		t.Errorf("Terraform's processes are left: %v", left)
	}

	next, c := s.serve()
	next.resumes(id)
	s.open("start.before", "start.after")
	c.ends(id, "succeeded", launched)
	if out := c.output(id); !strings.Contains(out, "Interrupt received") {
		t.Errorf("Terraform was not interrupted:\n%s", out)
	}
	s.fleetIs(c, hostnames(1, launched))
	s.goesOn(next, c, launched)
}

// Who destroys everything while a killed launch is resumed gets what they asked
// for: nothing is left, also of VMs that no Terraform knew.
func TestServe_KilledDuringALaunchThenAllDestroyed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p, c := s.serve()
	id := s.halfLaunched(c)
	killed(p, 0)
	left := s.terraform()

	next, c := s.serve()
	next.resumes(id)
	s.ended("what the killed run left", left)
	s.open("stop.before", "stop.after")
	destroy := c.destroyAll(launched)
	c.ends(destroy.ID, "succeeded", launched)
	if op := c.operation(id); op.State != "cancelled" {
		t.Errorf("the launch has ended as %s", op.State)
	}
	s.fleetIs(c, nil)
	s.open("start.before", "start.after")
	s.goesOn(next, c, 0)
}

// kill -9 at moments that nobody chose, while the module does its work as fast as
// it can.
func TestServe_KilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	const vms, rounds = 9, 2
	s := newSite(t)
	s.open("start.before", "start.after", "stop.before", "stop.after")
	p, c := s.serve()
	// kill waits until so many VMs have a folder, and a little longer.
	kill := func(what string, there func(folders int) bool) {
		t.Helper()
		testkit.Eventually(t, "the moment to kill", func() bool { return there(len(s.folders())) })
		<-time.After(rand.N(100 * time.Millisecond))
		killed(p, 0)
		t.Logf("%s: killed with %d folders, %d agents", what, len(s.folders()), len(s.agents()))
		p, c = s.serve()
	}
	for round := range rounds {
		launch := c.launch(vms).ID
		kill("launch", func(folders int) bool { return folders > rand.IntN(vms) })
		c.ends(launch, "succeeded", vms)
		s.fleetIs(c, hostnames(round*vms+1, (round+1)*vms))

		destroy := c.destroyAll(vms).ID
		kill("destroy", func(folders int) bool { return folders < vms })
		c.ends(destroy, "succeeded", vms)
		s.fleetIs(c, nil)
	}
	s.goesOn(p, c, 0)
}

// PostgreSQL alone is killed: the server ends, because it is of no use without,
// and Terraform keeps its state in a file.
func TestServe_PostgreSQLKilledDuringALaunch(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p, c := s.serve()
	id := s.halfLaunched(c)
	if err := syscall.Kill(postgresPID(t, s.data()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(); err == nil {
		t.Error("the server ended as if nothing had happened")
	}
	if left := s.terraform(); len(left) > 0 {
		t.Errorf("Terraform's processes are left: %v", left)
	}

	next, c := s.serve()
	next.resumes(id)
	s.open("start.before", "start.after")
	c.ends(id, "succeeded", launched)
	s.fleetIs(c, hostnames(1, launched))
	s.goesOn(next, c, launched)
}
