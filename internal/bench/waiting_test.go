//go:build linux

package bench_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"
)

// allocator is LabLink's server with a database and agents that all wait.
type allocator struct {
	*process
	db    *database
	swarm *swarm
}

func newAllocator(tb testing.TB, sc scale) *allocator {
	tb.Helper()
	needFiles(tb, sc.agents)
	a := &allocator{db: newDatabase(tb, sc.agents)}
	a.process = newServe(tb, sc, folder(tb), a.db.url())
	a.start()
	return a
}

// gather starts the agents, and returns when all wait.
func (a *allocator) gather() {
	a.tb.Helper()
	a.swarm = newSwarm(a.tb, a.addr, a.db.machines)
	a.wait()
}

func (a *allocator) wait() {
	a.tb.Helper()
	until(a.tb, "all agents to wait", func() bool { return a.db.waiting() == len(a.db.machines) })
}

func BenchmarkMemory(b *testing.B) {
	for range b.N {
		measureMemory(b, &table, full())
	}
}

// measureMemory asks what a waiting VM costs, when each has been sent two
// keep-alives: by then all buffers are there that a poll ever needs.
func measureMemory(tb testing.TB, r *report, sc scale) {
	needFiles(tb, sc.agents)
	bare := newBare(tb, sc)
	bare.start()
	floor := settled(tb, bare.addr, make([]machine, sc.agents), bare.bareMemory)
	bare.stop()

	a := newAllocator(tb, sc)
	ours := settled(tb, a.addr, a.db.machines, a.serveMemory)

	const kib = 1024
	add := func(name, key string, ours, floor float64, goal string) {
		// Of few VMs it may be less than nothing: a garbage collection frees more than they take.
		r.keep(tb, figure{fmt.Sprintf("memory per waiting VM of %d, %s", sc.agents, name), key, "KiB", ours / kib, floor / kib, goal})
	}
	add("RSS", "rss", ours.rss, floor.rss, "16 KiB, or near the floor")
	add("Go heap", "heap", ours.heap, floor.heap, "")
	add("Go stacks", "stack", ours.stack, floor.stack, "")
}

// settled returns what each of the machines that wait adds to a server.
func settled(tb testing.TB, addr string, machines []machine, measure func() (memory, int)) memory {
	tb.Helper()
	before, _ := measure()
	swarm := newSwarm(tb, addr, machines)
	defer swarm.stop()
	until(tb, "two keep-alives for every agent", func() bool { return swarm.heardAll(2) })
	after, held := measure()
	if held != len(machines) {
		tb.Fatalf("%d agents wait, want %d", held, len(machines))
	}
	return after.minus(before).over(len(machines))
}

func BenchmarkLatency(b *testing.B) {
	for range b.N {
		measureLatency(b, &table, full())
	}
}

// measureLatency asks how long it takes from a participant's request until the
// VM has its answer, one participant after the other. The floor's samples are
// taken in between, so that both see the same machine.
func measureLatency(tb testing.TB, r *report, sc scale) {
	a := newAllocator(tb, sc)
	a.gather()
	people := newParticipants(tb, a.addr, 1)
	notify := newNotifier(a.db)
	var ours, floor []time.Duration
	const warm = 5
	for i := range sc.samples + warm {
		command, code := people.command()
		arrived := a.swarm.expect(code)
		began := time.Now()
		people.request(command)
		took := a.await(arrived).Sub(began)
		raw := notify.once(i % sc.agents)
		if i >= warm {
			ours, floor = append(ours, took), append(floor, raw)
		}
		if (i+1)%(sc.agents/2) == 0 {
			a.db.vacate()
			a.wait()
		}
	}
	notify.stop()
	a.swarm.stop()
	name := func(s string) string { return fmt.Sprintf("request to VM's answer with %d waiting, %s", sc.agents, s) }
	r.add(tb, figure{name("p50"), "p50", "ms", ms(percentile(ours, .5)), ms(percentile(floor, .5)), "4 times the floor"})
	r.add(tb, figure{name("p99"), "p99", "ms", ms(percentile(ours, .99)), ms(percentile(floor, .99)), "50 ms"})
}

// await returns when the code came. A lost one is an error, a late one is not.
func (a *allocator) await(arrived <-chan time.Time) time.Time {
	a.tb.Helper()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	select {
	case at := <-arrived:
		return at
	case <-late.C:
		a.tb.Fatalf("a VM did not get its command within a minute\n%s", a.tail())
		return time.Time{}
	}
}

// notifier measures an UPDATE with a NOTIFY until it is heard.
type notifier struct {
	db    *database
	heard chan time.Time
	stop  func()
}

func newNotifier(db *database) *notifier {
	n := &notifier{db: db, heard: make(chan time.Time, 1)}
	n.stop = db.listen(func(string) { n.heard <- time.Now() })
	return n
}

func (n *notifier) once(row int) time.Duration {
	began := time.Now()
	n.db.exec(`WITH u AS (UPDATE floor SET n = n + 1 WHERE id = $1 RETURNING id) SELECT pg_notify('floor', id::text) FROM u`, row+1)
	return (<-n.heard).Sub(began)
}

func BenchmarkAssign(b *testing.B) {
	for range b.N {
		measureAssign(b, &table, full())
	}
}

// measureAssign asks how many seats are given away a second, by the store alone
// and by HTTP with everything that follows: the VMs fetch their codes and
// acknowledge them meanwhile.
func measureAssign(tb testing.TB, r *report, sc scale) {
	a := newAllocator(tb, sc)
	measure := func(kind string, atOnce int, ask func(*participants)) {
		var ours, floor []float64
		for range sc.rounds {
			floor = append(floor, a.db.pgbench(sc.agents, atOnce, sc.level))
			people := newParticipants(tb, a.addr, atOnce)
			if a.swarm == nil {
				ours = append(ours, people.rush(sc, ask))
			} else {
				before := a.swarm.delivered.Load()
				ours = append(ours, people.rush(sc, ask))
				until(tb, "all VMs to have their codes, and to wait again", func() bool {
					return a.swarm.delivered.Load()-before >= people.made.Load() && a.db.waiting() == sc.agents
				})
			}
			a.db.vacate()
		}
		slices.Sort(ours)
		slices.Sort(floor)
		r.add(tb, figure{fmt.Sprintf("assignments a second, %d at once, %s", atOnce, kind), kind + "-" + strconv.Itoa(atOnce),
			"seats/s", ours[sc.rounds/2], floor[sc.rounds/2], "half"})
	}
	a.db.pretend()
	for _, n := range sc.levels {
		measure("store", n, func(p *participants) { p.assign(a.db.store) })
	}
	a.db.forget()
	a.gather()
	for _, n := range sc.levels {
		measure("HTTP", n, func(p *participants) { p.request(p.first()) })
	}
	a.swarm.stop()
}
