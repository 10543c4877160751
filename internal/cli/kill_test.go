package cli_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/testkit"
)

// participant is somebody with a browser and a code.
type participant struct {
	email, cookie, code string
	hostname, pin       string // as answered, "" if the answer was cut
}

// ask requests a VM, and keeps the answer if it came whole.
func (p *participant) ask(ctx context.Context, c *client) int {
	var seat struct{ Hostname, PIN string }
	status := c.do(ctx, http.MethodPost, "/api/request_vm",
		map[string]string{"Accept": "application/json", "Cookie": "lablink_browser=" + p.cookie},
		map[string]string{"email": p.email, "crd_command": p.code}, &seat)
	if status == http.StatusOK {
		p.hostname, p.pin = seat.Hostname, seat.PIN
	}
	return status
}

// kill -9 at a random moment, while 120 people press the button: whatever was
// answered is still so after the restart, and whoever got no answer gets a VM of
// their own by asking again.
func TestServe_KillNineLosesNothing(t *testing.T) {
	t.Parallel()
	const people, rounds = 120, 3
	dir := dataDir(t)
	holders := map[string]string{} // e-mail by hostname, of all rounds
	for round := range rounds {
		p, c := serve(t, "--data-dir", dir)
		c.login(dir)
		postgres := postgresPID(t, dir)
		var names []string
		for n := range people {
			names = append(names, fmt.Sprintf("vm-%d-%d", round, n))
		}
		c.register(names...)

		everybody := make([]*participant, people)
		killAfter := rand.Int64N(people)
		var answered atomic.Int64
		var wg sync.WaitGroup
		var once sync.Once
		kill := func() {
			once.Do(func() {
				if round == rounds-1 { // PostgreSQL too, as when the machine goes down
					if err := syscall.Kill(postgres, syscall.SIGKILL); err != nil {
						t.Error(err)
					}
				}
				p.signal(syscall.SIGKILL)
			})
		}
		if killAfter == 0 {
			time.AfterFunc(rand.N(50*time.Millisecond), kill)
		}
		for n := range people {
			who := &participant{email: fmt.Sprintf("p%d-%d@example.org", round, n), cookie: fleet.NewToken(), code: "4/0" + fleet.NewToken()}
			everybody[n] = who
			wg.Go(func() {
				status := who.ask(t.Context(), c)
				if status != http.StatusOK && status != 0 && p.running() {
					t.Errorf("round %d, %s: %d", round, who.email, status)
				}
				if status == http.StatusOK && answered.Add(1) == killAfter {
					kill()
				}
			})
		}
		wg.Wait()
		kill() // if all were answered before
		if err := p.wait(); err == nil {
			t.Fatalf("round %d: kill -9 was survived", round)
		}
		t.Logf("round %d: killed after %d of %d answers", round, answered.Load(), people)

		again, c := serve(t, "--data-dir", dir)
		if pid := postgresPID(t, dir); (pid == postgres) != (round < rounds-1) {
			t.Errorf("round %d: PostgreSQL was %d, is %d", round, postgres, pid)
		}
		for _, who := range everybody {
			before := *who
			if status := who.ask(t.Context(), c); status != http.StatusOK {
				t.Errorf("round %d, %s after the restart: %d", round, who.email, status)
				continue
			}
			if before.hostname != "" && *who != before {
				t.Errorf("round %d: %s was told %s with PIN %s, now it is %s with %s", round, who.email, before.hostname, before.pin, who.hostname, who.pin)
			}
			if other, taken := holders[who.hostname]; taken {
				t.Errorf("round %d: %s belongs to %s and %s", round, who.hostname, other, who.email)
			}
			holders[who.hostname] = who.email
		}
		var free struct{ Count int }
		if status := c.do(t.Context(), http.MethodGet, "/api/unassigned_vms_count", nil, nil, &free); status != http.StatusOK || free.Count != 0 {
			t.Errorf("round %d: %d VMs are left over, %d", round, free.Count, status)
		}
		again.signal(syscall.SIGTERM)
		if err := again.wait(); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
	}
}

// One of two servers on one database is killed: its VM comes back at the other,
// and gets its participant there.
func TestServe_OneOfTwoReplicasKilled(t *testing.T) {
	t.Parallel()
	database := testkit.DB(t)
	dirA, dirB := dataDir(t), dataDir(t)
	a, first := serve(t, "--data-dir", dirA, "--database-url", database)
	_, second := serve(t, "--data-dir", dirB, "--database-url", database)
	first.login(dirA)
	token := first.register("vm-1")["vm-1"]

	answer := make(chan string, 1)
	go func() { // an agent: it calls again for ever, at the balancer's next server
		for n := 0; t.Context().Err() == nil; n++ {
			c := []*client{first, second}[min(n, 1)]
			var reply struct{ Status, PIN string }
			if c.do(t.Context(), http.MethodPost, "/vm_startup", bearer(token), map[string]string{"hostname": "vm-1", "agent": "test"}, &reply) == http.StatusOK {
				answer <- reply.PIN
				return
			}
		}
	}()
	first.waits("vm-1")
	a.signal(syscall.SIGKILL)
	if err := a.wait(); err == nil {
		t.Fatal("kill -9 was survived")
	}
	ada := &participant{email: "ada@example.org", cookie: fleet.NewToken(), code: "4/0" + fleet.NewToken()}
	if status := ada.ask(t.Context(), second); status != http.StatusOK {
		t.Fatalf("at the other server: %d", status)
	}
	select {
	case pin := <-answer:
		if pin != ada.pin {
			t.Errorf("the VM got PIN %s, the participant %s", pin, ada.pin)
		}
	case <-time.After(patience):
		t.Error("the VM was not served by the other server")
	}
}
