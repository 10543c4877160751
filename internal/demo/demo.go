// Package demo runs the whole of LabLink on one machine: an allocator with its
// private PostgreSQL, VMs that Terraform makes out of processes, and a simulated
// Chrome Remote Desktop. With Once it also plays the organiser and a participant.
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

	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/server"
	"lablink/internal/store"
)

// Options say how the demo runs.
type Options struct {
	Listen    string // HOST:PORT
	VMs       int
	Once      bool      // play everybody through all phases, then end
	Binary    string    // the lablink program, for the agents
	Terraform string    // path of Terraform or OpenTofu; "" looks for one
	Out       io.Writer // where the story is told

	code string // as Google would hand it to the participant; a fresh one, but in tests
}

// demo is a running demo.
type demo struct {
	Options
	dir      string // of everything that the demo writes
	url      string // of the pages
	user     string
	password string
	store    *store.Store

	stopAllocator func() error
	stopped       chan error // the allocator's end
}

// Run runs the demo until ctx ends or, with Once, until the story is told. It
// leaves nothing behind.
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
	d := &demo{Options: o, dir: dir, stopped: make(chan error, 1)}

	d.say("Starting the allocator and its private PostgreSQL ...")
	began := time.Now()
	if err := d.startAllocator(ctx); err != nil {
		return d.unlessAsked(ctx, err)
	}
	err = d.unlessAsked(ctx, d.play(ctx, began))
	if err != nil {
		d.explain(err)
	}
	return errors.Join(err, d.cleanUp(context.WithoutCancel(ctx)))
}

// unlessAsked makes nothing of an error that only says that ctx has ended:
// Ctrl-C is how a demo ends. A story that was not told to its end is no success.
func (d *demo) unlessAsked(ctx context.Context, err error) error {
	if ctx.Err() != nil && !d.Once && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// play lets Terraform make the VMs, and goes on as the options say.
func (d *demo) play(ctx context.Context, began time.Time) error {
	if d.Once {
		d.took("The allocator answers at "+d.url, began)
		d.took("Phase 1: the participant has a command from Google (simulated)", time.Now())
	} else {
		d.say("\n  Pages for participants   %s\n  Pages for the organiser  %s/admin\n      user      %s\n      password  %s\n  The allocator's log      %s\n",
			d.url, d.url, d.user, d.password, d.logFile())
	}

	began = time.Now()
	if err := d.launch(ctx); err != nil {
		return err
	}
	d.took("Terraform made "+counted(d.VMs), began)

	began = time.Now()
	if err := d.waitUntilAllWait(ctx); err != nil {
		return err
	}
	d.took("Phase 2: "+counted(d.VMs)+" started, and wait", began)

	if !d.Once {
		return d.narrate(ctx)
	}
	seat, err := d.playParticipant(ctx)
	if err != nil {
		return err
	}
	if err := d.readLog(ctx, seat.Hostname); err != nil {
		return err
	}
	return d.playEnd(ctx, seat)
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.Out, format+"\n", args...) }

func (d *demo) took(what string, since time.Time) {
	d.say("%-64s %8s", what, time.Since(since).Round(time.Millisecond))
}

func counted(n int) string {
	if n == 1 {
		return "1 VM"
	}
	return fmt.Sprintf("%d VMs", n)
}

func (d *demo) dataDir() string { return filepath.Join(d.dir, "data") }

func (d *demo) logFile() string { return filepath.Join(d.dir, "allocator.log") }

// explain prints what helps to understand an error, before it is removed.
func (d *demo) explain(err error) {
	end := func(text string, shown int) string {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		return strings.Join(lines[max(0, len(lines)-shown):], "\n")
	}
	if failed, ok := errors.AsType[*operationError](err); ok {
		if failed.output != "" { // it goes on after the error, with the clean-up
			d.say("\nThe end of what Terraform wrote:\n%s\n", end(failed.output, 100))
		}
		return // the logs tell nothing more
	}
	agents, _ := filepath.Glob(d.home("*") + "/agent.log") // the pattern is right
	for _, name := range append(agents, d.logFile()) {
		data, err := os.ReadFile(name)
		if err != nil {
			d.say("%s: %v", name, err)
			continue
		}
		d.say("\nThe end of %s:\n%s", name, end(string(data), 10))
	}
}

// startAllocator runs the server in this process, as "lablink serve" does.
func (d *demo) startAllocator(ctx context.Context) error {
	environ := []string{"LABLINK_PROVIDER=local", "LABLINK_MACHINE_MACHINE_TYPE=small"}
	if d.Terraform != "" {
		environ = append(environ, "LABLINK_PROVISION_TERRAFORM="+d.Terraform)
	}
	cfg, err := config.Load(config.Options{Environ: environ, Flags: map[string]string{"listen": d.Listen, "data-dir": d.dataDir()}})
	if err != nil {
		return err
	}
	log, err := os.Create(d.logFile())
	if err != nil {
		return err
	}
	ready := make(chan struct{})
	var databaseURL string
	srv := server.New(server.Options{
		Config: cfg, Logger: slog.New(slog.NewTextHandler(log, nil)), Binary: d.Binary,
		NewPassword: func(user, password string) { d.user, d.password = user, password },
		Ready: func(addr net.Addr, url string) {
			databaseURL = url
			d.url = "http://" + reachable(addr)
			close(ready)
		},
	})
	// Not ctx: the VMs are destroyed first, which takes an allocator.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() { d.stopped <- srv.Run(running) }()
	d.stopAllocator = func() error {
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
		return errors.Join(err, log.Close())
	case <-ctx.Done():
		if err := d.stopAllocator(); err != nil {
			return err
		}
		return ctx.Err()
	}
	if d.store, err = store.Open(ctx, databaseURL); err != nil {
		return errors.Join(err, d.stopAllocator())
	}
	return nil
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
