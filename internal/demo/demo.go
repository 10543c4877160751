// Package demo runs the whole of LabLink on one machine: an allocator with its
// private PostgreSQL, machines that are processes, and a simulated Chrome Remote
// Desktop. With Once it also plays a participant.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lablink/internal/agent/simhost"
	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/server"
	"lablink/internal/store"
)

// Options say how the demo runs.
type Options struct {
	Listen string // HOST:PORT
	VMs    int
	Once   bool      // play a participant through all phases, then end
	Binary string    // the lablink program, for the agents
	Out    io.Writer // where the story is told

	code string // as Google would hand it to the participant; a fresh one, but in tests
}

// demo is a running demo.
type demo struct {
	Options
	dir       string // of everything that the demo writes
	url       string // of the pages
	user      string
	password  string
	startHost string
	store     *store.Store
	stopped   chan error  // the allocator's end
	gone      chan string // the hostnames of agents that ended
}

// Run runs the demo until ctx ends or, with Once, until the participant has
// reached the desktop. It leaves nothing behind.
func Run(ctx context.Context, o Options) (err error) {
	dir, err := os.MkdirTemp("", "lablink-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// PostgreSQL refuses to run as root; the user that it runs as then must get through.
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // what is secret below is closed by itself
		return err
	}
	if o.code == "" {
		o.code = "4/0" + fleet.NewToken()[:32]
	}
	d := &demo{Options: o, dir: dir, stopped: make(chan error, 1), gone: make(chan string, o.VMs)}
	if d.startHost, err = simhost.Install(filepath.Join(dir, "chrome-remote-desktop"), o.Binary); err != nil {
		return err
	}
	interrupted := func(err error) error {
		if ctx.Err() != nil && !d.Once && errors.Is(err, context.Canceled) {
			return nil // Ctrl-C is how a demo ends
		}
		return err
	}

	d.say("Starting the allocator and its private PostgreSQL ...")
	began := time.Now()
	stopAllocator, err := d.startAllocator(ctx)
	if err != nil {
		return interrupted(err)
	}
	defer func() { err = errors.Join(err, stopAllocator()) }()
	if d.Once {
		d.took("The allocator answers at "+d.url, began)
	} else {
		d.say("\n  Pages for participants   %s\n  Pages for the organiser  %s/admin\n      user      %s\n      password  %s\n  The allocator's log      %s\n",
			d.url, d.url, d.user, d.password, d.logFile())
	}

	began = time.Now()
	if d.Once {
		d.took("Phase 1: the participant has a command from Google (simulated)", began)
	}
	machines, err := d.startMachines(ctx)
	defer func() {
		if interrupted(err) != nil {
			d.showLogs()
		}
		err = errors.Join(err, machines.stop())
	}()
	if err != nil {
		return interrupted(err)
	}
	if err := d.waitUntilAllWait(ctx); err != nil {
		return interrupted(err)
	}
	d.took(fmt.Sprintf("Phase 2: %d VMs have started, and wait", d.VMs), began)

	if d.Once {
		return d.playParticipant(ctx)
	}
	return interrupted(d.narrate(ctx))
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.Out, format+"\n", args...) }

func (d *demo) took(what string, since time.Time) {
	d.say("%-64s %8s", what, time.Since(since).Round(time.Millisecond))
}

func (d *demo) logFile() string { return filepath.Join(d.dir, "allocator.log") }

// showLogs prints the ends of the logs, before they are removed.
func (d *demo) showLogs() {
	const shown = 10                                                   // lines
	agents, _ := filepath.Glob(filepath.Join(d.dir, "*", "agent.log")) // the pattern is right
	for _, name := range append(agents, d.logFile()) {
		data, err := os.ReadFile(name)
		if err != nil {
			d.say("%s: %v", name, err)
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		d.say("\nThe end of %s:\n%s", name, strings.Join(lines[max(0, len(lines)-shown):], "\n"))
	}
}

// startAllocator runs the server in this process, as "lablink serve" does, and
// returns how to stop it.
func (d *demo) startAllocator(ctx context.Context) (stop func() error, err error) {
	cfg, err := config.Load(config.Options{Flags: map[string]string{
		"listen": d.Listen, "data-dir": filepath.Join(d.dir, "data"),
	}})
	if err != nil {
		return nil, err
	}
	log, err := os.Create(d.logFile())
	if err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	var databaseURL string
	srv := server.New(server.Options{
		Config: cfg, Logger: slog.New(slog.NewTextHandler(log, nil)),
		NewPassword: func(user, password string) { d.user, d.password = user, password },
		Ready: func(addr net.Addr, url string) {
			databaseURL = url
			d.url = "http://" + reachable(addr)
			close(ready)
		},
	})
	// Not ctx: the agents stop first, while the allocator still answers.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() { d.stopped <- srv.Run(running) }()
	stop = func() error {
		if d.store != nil {
			d.store.Close()
		}
		cancel()
		return errors.Join(<-d.stopped, log.Close())
	}
	select {
	case <-ready:
	case err := <-d.stopped:
		cancel()
		return nil, errors.Join(err, log.Close())
	case <-ctx.Done():
		if err := stop(); err != nil {
			return nil, err
		}
		return nil, ctx.Err()
	}
	if d.store, err = store.Open(ctx, databaseURL); err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// reachable is an address to put into a browser.
func reachable(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && (ip.IsUnspecified() || ip.IsLoopback()) {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
