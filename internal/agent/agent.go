// Package agent is LabLink's side on a participant's VM. It waits in a held
// call for a Chrome Remote Desktop command, carries it out, says how it went,
// and reports the state of the machine meanwhile.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"lablink/internal/agent/crd"
	"lablink/internal/agent/ship"
	"lablink/internal/fleet"
	"lablink/internal/wire"
)

// Config is what an agent needs. Allocator, Hostname and StateDir are required;
// the rest has defaults.
type Config struct {
	Allocator string // as NormalizeAllocator returns it
	Hostname  string // as LabLink knows this VM, and as the participant will see it
	Token     string // empty where the allocator runs with auth.machines: open
	Version   string
	StateDir  string

	StartHost    string        // crd.DefaultStartHost
	User         string        // whose desktop it is; empty: the agent's own user
	Home         string        // of the agent's own user, where User is empty; $HOME
	SetupTimeout time.Duration // 2 minutes
	Systemctl    string        // "systemctl"
	SystemdDir   string        // "/run/systemd/system"

	Software  string    // the agent reports whether it is in use; empty: it does not
	NvidiaSMI string    // "nvidia-smi"
	StartedAt time.Time // when this program started; by default when New was called

	ShipLogs bool          // sends its own log, and what its container prints, to the allocator
	LogFiles []ship.Source // sent as well

	Timing Timing
	Log    *slog.Logger
}

// Timing holds the agent's periods and limits. Zero values mean the defaults.
type Timing struct {
	Dial          time.Duration // to connect: 30 s
	Call          time.Duration // for a short call, all in all: 20 s
	HeaderSilence time.Duration // for a poll to be answered with headers: 90 s
	SilenceMargin time.Duration // beyond three missing keep-alives: 15 s
	MaxSilence    time.Duration // whatever interval the allocator announces: 10 minutes
	RetryMin      time.Duration // first wait after a failure: 1 s
	RetryMax      time.Duration // longest wait: 1 minute
	AtOnce        time.Duration // spread of the calls that follow the end of a poll: 1 s
	StatusEvery   time.Duration // between looks at whether the VM is ready: 5 s
	ProbeEvery    time.Duration // between looks at GPU and processes: 20 s
	Repeat        time.Duration // of what has not changed: 1 minute
	GPULimit      time.Duration // for nvidia-smi: 10 s
	Stop          time.Duration // for each step of a clean-up: 1 minute
	Report        time.Duration // for a result to be taken, all tries together: 10 minutes
	Logs          ship.Timing
}

// Agent is one VM's agent. Make it with New.
type Agent struct {
	cfg    Config
	client *client
	host   *crd.Host

	ownLog   *ship.Spool  // nil: it is not shipped
	plainLog *slog.Logger // that is not shipped in any case

	// Of the status level alone.
	trouble string
	looked  bool

	readyOnce sync.Once
	ready     chan time.Time // gets the moment when the VM was first ready
}

// New checks the configuration and fills in defaults. It starts nothing.
func New(cfg Config) (*Agent, error) {
	var errs []error
	allocator, err := NormalizeAllocator(cfg.Allocator)
	errs = append(errs, err, fleet.ValidateHostname(cfg.Hostname))
	if cfg.StateDir == "" {
		errs = append(errs, errors.New("the state directory is missing"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	cfg.Allocator = allocator
	cfg.defaults()
	plainLog := cfg.Log
	ownLog := cfg.ownLog()
	return &Agent{
		cfg:      cfg,
		client:   newClient(cfg),
		ownLog:   ownLog,
		plainLog: plainLog,
		host: crd.New(crd.Config{
			StartHost: cfg.StartHost, User: cfg.User, Home: cfg.Home, Timeout: cfg.SetupTimeout, StopTimeout: cfg.Timing.Stop,
			Systemctl: cfg.Systemctl, SystemdDir: cfg.SystemdDir, Log: cfg.Log,
		}),
		ready: make(chan time.Time, 1),
	}, nil
}

func (cfg *Config) defaults() {
	if cfg.Version == "" {
		cfg.Version = "dev"
	}
	if cfg.StartHost == "" {
		cfg.StartHost = crd.DefaultStartHost
	}
	if cfg.NvidiaSMI == "" {
		cfg.NvidiaSMI = "nvidia-smi"
	}
	if cfg.StartedAt.IsZero() {
		cfg.StartedAt = time.Now()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	t := &cfg.Timing
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{
		{&t.Dial, 30 * time.Second}, {&t.Call, 20 * time.Second},
		{&t.HeaderSilence, 90 * time.Second}, {&t.SilenceMargin, 15 * time.Second}, {&t.MaxSilence, 10 * time.Minute},
		{&t.RetryMin, time.Second}, {&t.RetryMax, time.Minute}, {&t.AtOnce, time.Second},
		{&t.StatusEvery, 5 * time.Second}, {&t.ProbeEvery, 20 * time.Second}, {&t.Repeat, time.Minute},
		{&t.GPULimit, 10 * time.Second}, {&t.Stop, time.Minute}, {&t.Report, 10 * time.Minute},
	} {
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
}

// Run works until ctx ends, and then returns nil: a set-up that is running is
// ended with it, and settled by the next Run. Other errors mean that it could
// not begin.
func (a *Agent) Run(ctx context.Context) error {
	state, notice, err := openState(a.cfg.StateDir, a.cfg.Hostname)
	if err != nil {
		return err
	}
	defer state.close()
	if notice != nil {
		a.cfg.Log.Error("the state was damaged", "error", notice)
	}
	defer a.client.close()
	endShipping := a.shipping(ctx)
	defer endShipping()
	a.cfg.Log.Info("the agent has started", "hostname", a.cfg.Hostname, "allocator", a.cfg.Allocator, "version", a.cfg.Version)

	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	a.reports(ctx, &group)
	a.work(ctx, &deliveries{
		state: state, host: a.host, name: a.cfg.Hostname,
		scope: a.cfg.Allocator + "\n" + a.cfg.Hostname, log: a.cfg.Log, report: a.reportResult,
	})
	cancel()
	group.Wait()
	a.cfg.Log.Info("the agent has stopped")
	return nil
}

// work polls and carries out what comes, one thing at a time, until ctx ends.
func (a *Agent) work(ctx context.Context, d *deliveries) {
	d.resume(ctx)
	p := pace{backoff: backoff{min: a.cfg.Timing.RetryMin, max: a.cfg.Timing.RetryMax}, atOnce: a.cfg.Timing.AtOnce}
	for ctx.Err() == nil {
		reply, err := a.client.poll(ctx)
		if err == nil {
			a.client.relieved(wire.PathStartup)
			var repeated bool
			if repeated, err = d.handle(ctx, reply); err == nil && !repeated {
				p.reset()
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		pause := p.after(err)
		a.explain(err)
		if wait(ctx, pause) != nil {
			return
		}
	}
}

// explain logs the end of a poll: as usual if it had been held, as a complaint
// if not.
func (a *Agent) explain(err error) {
	pe, _ := errors.AsType[*pollError](err)
	se, _ := errors.AsType[*statusError](err)
	switch {
	case err == nil:
		a.cfg.Log.Warn("the allocator sent a delivery that it had acknowledged")
	case pe != nil && pe.alive, se != nil && se.restart:
		a.client.relieved(wire.PathStartup)
		a.cfg.Log.Info("the poll has ended; calling again", "why", err)
	default:
		a.client.complain(wire.PathStartup, err)
	}
}

// reportResult posts a result until the allocator's answer is final, but not for
// ever. While it tries, nobody polls: an allocator that cannot take this result
// (a fault in one row or one handler) could not give this VM anything else
// either, not even the release that would clear the fault away. Nothing is lost
// by polling again: an allocator that still waits for the result sends the same
// delivery, which is then not carried out again, but reported again.
func (a *Agent) reportResult(ctx context.Context, r wire.ResultRequest) error {
	trying, cancel := context.WithTimeout(ctx, a.cfg.Timing.Report)
	defer cancel()
	err := a.client.persist(trying, wire.PathCRDResult, r)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		a.cfg.Log.Error("the allocator has not taken the result; polling again", "delivery", r.Delivery, "result", r.Result, "tried_for", a.cfg.Timing.Report)
		return err
	}
	if se, ok := errors.AsType[*statusError](err); ok && se.code == http.StatusConflict {
		a.cfg.Log.Info("a newer delivery has replaced this one", "delivery", r.Delivery)
	} else if err != nil {
		a.cfg.Log.Error("the allocator refuses the result", "delivery", r.Delivery, "result", r.Result, "error", err)
	} else {
		a.cfg.Log.Info("the result is reported", "delivery", r.Delivery, "result", r.Result)
	}
	return nil
}
