//go:build linux

package bench_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func BenchmarkRestart(b *testing.B) {
	for range b.N {
		measureRestart(b, &table, full())
	}
}

// measureRestart kills the server while all agents wait, starts it again at
// once, and asks how long it takes until it is ready, and until all wait again.
func measureRestart(tb testing.TB, r *report, sc scale) {
	needFiles(tb, sc.agents)
	bare := newBare(tb, sc)
	bare.start()
	swarm := newSwarm(tb, bare.addr, make([]machine, sc.agents))
	floorReady, floor := restart(tb, sc, bare, swarm, func() bool { _, n := bare.bareMemory(); return n == sc.agents })
	swarm.stop()
	bare.stop()

	a := newAllocator(tb, sc)
	a.gather()
	ready, took := restart(tb, sc, a.process, a.swarm, func() bool { return a.db.waiting() == sc.agents })
	a.swarm.stop()

	name := func(s string) string { return fmt.Sprintf("kill -9 and restart with %d waiting, %s", sc.agents, s) }
	r.add(tb, figure{name("until ready"), "ready", "s", ready.Seconds(), floorReady.Seconds(), ""})
	r.add(tb, figure{name("until all wait again"), "again", "s", took.Seconds(), floor.Seconds(), ""})
}

// restart returns the medians.
func restart(tb testing.TB, sc scale, p *process, s *swarm, all func() bool) (ready, again time.Duration) {
	tb.Helper()
	var readies, untilAll []time.Duration
	for range sc.repeat {
		until(tb, "all agents to wait", all)
		// An agent that was held comes back at once, one that was not backs off.
		until(tb, "a keep-alive for every agent", func() bool { return s.heardAll(1) })
		began := time.Now()
		p.kill()
		readies = append(readies, p.start())
		until(tb, "all agents to wait again", all)
		untilAll = append(untilAll, time.Since(began))
	}
	return percentile(readies, .5), percentile(untilAll, .5)
}

func BenchmarkStart(b *testing.B) {
	for range b.N {
		measureStart(b, &table, full())
	}
}

// measureStart asks how long `serve` with its own PostgreSQL takes to be ready,
// with an empty data folder and with the same folder again.
func measureStart(tb testing.TB, r *report, sc scale) {
	var cold, warm, floorCold, floorWarm []time.Duration
	for range sc.repeat {
		p := newServe(tb, sc, filepath.Join(folder(tb), "data"), "")
		cold = append(cold, p.start())
		p.stop()
		warm = append(warm, p.start())
		p.stop()

		pg := newPostgres(tb)
		began := time.Now()
		pg.run("initdb", "-D", pg.data, "-U", "postgres", "-A", "trust", "--encoding=UTF8", "--locale=C", "--data-checksums")
		pg.begin()
		floorCold = append(floorCold, time.Since(began))
		pg.end()
		began = time.Now()
		pg.begin()
		floorWarm = append(floorWarm, time.Since(began))
		pg.end()
	}
	r.add(tb, figure{"start of serve until ready, new folder", "cold", "s", percentile(cold, .5).Seconds(), percentile(floorCold, .5).Seconds(), ""})
	r.add(tb, figure{"start of serve until ready, again", "warm", "s", percentile(warm, .5).Seconds(), percentile(floorWarm, .5).Seconds(), ""})
}

// postgres is a server that is run by PostgreSQL's own tools, for the floor.
type postgres struct {
	tb        testing.TB
	dir, data string
	attr      *syscall.SysProcAttr
}

// newPostgres prepares a folder; PostgreSQL does not run as root.
func newPostgres(tb testing.TB) *postgres {
	tb.Helper()
	p := &postgres{tb: tb, dir: folder(tb)}
	p.data = filepath.Join(p.dir, "data")
	if os.Geteuid() != 0 {
		return p
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		tb.Fatal(err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		tb.Fatal(err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.Chown(p.dir, uid, gid); err != nil {
		tb.Fatal(err)
	}
	p.attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return p
}

func (p *postgres) run(name string, args ...string) {
	p.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(p.tb, name), args...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = p.dir, append(environment(nil), "LC_ALL=C"), p.attr
	// Output goes to no pipe: the server that pg_ctl starts would hold it open.
	if err := cmd.Run(); err != nil {
		p.tb.Fatalf("%s: %v", name, err)
	}
}

func (p *postgres) begin() {
	p.tb.Helper()
	p.run("pg_ctl", "-D", p.data, "-w", "-l", filepath.Join(p.dir, "log"), "-o", "-c listen_addresses= -c unix_socket_directories="+p.dir, "start")
}

func (p *postgres) end() {
	p.tb.Helper()
	p.run("pg_ctl", "-D", p.data, "-w", "-m", "fast", "stop")
}
